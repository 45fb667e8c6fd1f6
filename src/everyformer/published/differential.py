"""Differential Transformer (Ye et al., 2025)."""

from __future__ import annotations

import math

from everyformer.designs import Design
from everyformer.mixers import DifferentialAttention
from everyformer.published.llama import llama
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec

_KEPT = "heads", "key_heads", "head_width", "bias", "positions"
"""What it takes over of Llama's attention."""


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
@upon(
    llama,
    fixed={"query_key_norm": False, "output_bias": False, "window": None, "dropout": 0.0},
    vocabulary=100288,
    width=3072,
    depth=28,
    heads=24,
    tied=True,
)
def differential_transformer(design: Design, *, eps: float = 1e-5) -> Design:
    """Section 2: LLaMA's layers; l begins at 0.8 - 0.6 e^{-0.3 layer}. `heads` counts both of each pair."""
    for i, block in enumerate(design.get("backbone.blocks")):
        attention = {name: value for name, value in block.options["mixer"].options.items() if name in _KEPT}
        mixer = spec(DifferentialAttention, **attention, initial=0.8 - 0.6 * math.exp(-0.3 * i), eps=eps)
        design = design.swap(f"backbone.blocks.{i}.mixer", mixer)
    return design
