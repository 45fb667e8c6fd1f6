"""Decoders with experts (Fedus et al., Switch, 2022; Jiang et al., Mixtral, 2024)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.feedforward import Experts, Gated, TopK
from everyformer.published.llama import llama
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "moe",
    title="Mixtral of Experts",
    authors="Jiang et al.",
    year=2024,
    arxiv="2401.04088",
    idea="A decoder whose feedforward is many experts, of which a router gives each token two: more parameters, same work.",
    tasks=("language-modelling",),
    default="8x7b",
    sizes={
        "nano": {"width": 128, "hidden": 172, "depth": 4, "heads": 4, "key_heads": 4, "experts": 4},
        "8x7b": {"width": 4096, "hidden": 14336, "depth": 32, "heads": 32},
        "8x22b": {"width": 6144, "hidden": 16384, "depth": 56, "heads": 48, "vocabulary": 32768},
    },
)
@upon(llama, base=1e6, key_heads=8, eps=1e-5)
def moe(
    design: Design,
    *,
    hidden: int = 14336,
    experts: int = 8,
    chosen: int = 2,
    normalised: bool = True,
    shared: int = 0,
    balance: float = 0.01,
) -> Design:
    """Section 2.1, in Llama's frame. With `chosen=1, normalised=False` it routes as Switch does (2101.03961, section 2.1).

    `shared` is the hidden width of an expert that every token passes besides (DeepSeekMoE, 2401.06066), 0 for none.
    """
    mixture = spec(
        Experts,
        count=experts,
        expert=spec(Gated, hidden=hidden),
        router=spec(TopK, k=chosen, normalised=normalised, balance=balance),
        shared=spec(Gated, hidden=shared) if shared else None,
    )
    return design.swap("backbone.blocks.*.feedforward", mixture)
