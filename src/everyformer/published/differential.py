"""Differential Transformer (Ye et al., 2025)."""

from __future__ import annotations

import math

from everyformer.designs import Design
from everyformer.mixers import DifferentialAttention
from everyformer.positions import Rotary
from everyformer.published.llama import llama
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "differential-transformer",
    title="Differential Transformer",
    authors="Ye et al.",
    year=2025,
    arxiv="2410.05258",
    idea="Attention is the difference of two softmax maps, so that noise which both see cancels.",
    tasks=("language-modelling",),
    default="3b",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4},
        "3b": {"width": 3072, "hidden": 8192, "depth": 28, "heads": 24},
    },
)
def differential_transformer(
    *,
    vocabulary: int = 100288,
    width: int = 3072,
    hidden: int | None = None,
    depth: int = 28,
    heads: int = 24,
    key_heads: int | None = None,
    head_width: int | None = None,
    base: float = 10000.0,
    llama3: tuple[float, ...] | None = None,
    bias: bool = False,
    tied: bool = True,
    eps: float = 1e-5,
) -> Design:
    """Section 2: LLaMA's layers; l begins at 0.8 - 0.6 e^{-0.3 layer}. `heads` counts both of each pair."""
    made = llama(
        vocabulary=vocabulary, width=width, hidden=hidden, depth=depth, heads=heads, bias=bias, tied=tied, eps=eps
    )
    for i in range(depth):
        mixer = spec(
            DifferentialAttention,
            heads=heads,
            key_heads=key_heads or heads,
            head_width=head_width or width // heads,
            bias=bias,
            positions=spec(Rotary, base=base, llama3=llama3),
            initial=0.8 - 0.6 * math.exp(-0.3 * i),
            eps=eps,
        )
        made = made.swap(f"backbone.blocks.{i}.mixer", mixer)
    return made
