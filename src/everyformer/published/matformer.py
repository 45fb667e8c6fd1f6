"""MatFormer (Devvrit et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Elastic
from everyformer.designs import Design
from everyformer.feedforward import NestedGated
from everyformer.published.llama import llama
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "matformer",
    title="MatFormer: Nested Transformer for Elastic Inference",
    authors="Devvrit et al.",
    year=2024,
    arxiv="2310.07707",
    idea="The first hidden units of every feedforward are trained to be one by themselves; any size is cut from one model.",
    tasks=("language-modelling",),
    default="850m",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4},
        "850m": {"width": 1536, "hidden": 6144, "depth": 24, "heads": 16, "vocabulary": 256000},
    },
)
@upon(llama, width=1536, depth=24, heads=16)
def matformer(
    design: Design, *, hidden: int = 6144, shares: tuple[float, ...] = (0.125, 0.25, 0.5), rate: float = 0.75
) -> Design:
    """Section 3, in Llama's frame as in the authors' code. `rate` is the chance that a training step is a narrow one.

    A smaller model is cut for good by `ef.resize(model, "backbone.body.blocks.*.feedforward.hidden", units)`, each block
    by itself where it is mixed and matched (section 3.3).
    """
    nested = design.swap("backbone.blocks.*.feedforward", spec(NestedGated, hidden=hidden))
    return nested.swap("backbone", lambda body: spec(Elastic, body=body, shares=shares, rate=rate))
