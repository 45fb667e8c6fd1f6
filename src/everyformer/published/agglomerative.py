"""AGER (Tu et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Encoder
from everyformer.designs import Design
from everyformer.heads import Interactions
from everyformer.mixers import Attention
from everyformer.positions import ScaledSinusoidal
from everyformer.published.detection import detr
from everyformer.published.upon import upon
from everyformer.reduction import Grouping
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "agglomerative-transformer",
    title="Agglomerative Transformer for Human-Object Interaction Detection",
    authors="Tu et al.",
    year=2023,
    arxiv="2308.08370",
    idea="Learned centres gather the patches of a thing inside the encoder, guided by its name; queries relate these things.",
    tasks=("relations",),
    default="r50",
    sizes={"r50": {}},
)
@upon(detr, fixed={"depth": 1}, classes=80, decoder_depth=3)
def agglomerative_transformer(
    design: Design,
    *,
    classes: int = 80,
    queries: int = 100,
    heads: int = 8,
    dropout: float = 0.1,
    relations: int = 117,
    groups: tuple[int, ...] = (64, 16),
    stage_depth: int = 3,
    name_width: int = 512,
) -> Design:
    """DETR's residual network and queries around an encoder that groups, stage by stage, by GroupViT's assignment. `classes` and
    `relations` are HICO-DET's. The authors have published no code, and their abstract leaves the numbers of groups and layers
    open: those here are ours, as are the cues, a thing's name and box without a pose.
    """
    *convolutions, last = design.get("backbone.stages")
    (block,) = last.get("blocks")
    body = spec(Encoder, blocks=(block.but(mixer=spec(Attention, heads=heads, dropout=dropout)),) * stage_depth)
    steps = tuple(spec(Grouping, groups=each, body=body) for each in groups)
    head = design.get("head")
    design = design.set("backbone.stages", (*convolutions, last.but(blocks=steps, places=spec(ScaledSinusoidal))))
    design = design.set(
        "head",
        spec(
            Interactions, classes=classes, relations=relations, queries=queries, name_width=name_width, body=head.get("body"),
            norm=head.get("norm"),
        ),
    )  # fmt: skip
    return design.set("head.body.blocks.*.cross.0.memory_places", None)
