"""Landmark Attention (Mohtashami and Jaggi, 2023)."""

from __future__ import annotations

from everyformer.backbones import Landmarks
from everyformer.designs import Design
from everyformer.mixers import LandmarkAttention
from everyformer.positions import Rotary
from everyformer.published.llama import llama
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "landmark-attention",
    title="Landmark Attention: Random-Access Infinite Context Length for Transformers",
    authors="Mohtashami and Jaggi",
    year=2023,
    arxiv="2305.16300",
    idea="A token after every block learns to stand for it, so that each head fetches just the blocks that it needs.",
    tasks=("language-modelling",),
    default="7b",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4, "block": 16},
        "7b": {"width": 4096, "hidden": 11008, "depth": 32, "heads": 32},
    },
)
def landmark_attention(
    *,
    vocabulary: int = 32000,
    width: int = 4096,
    hidden: int | None = None,
    depth: int = 32,
    heads: int = 32,
    block: int = 50,
    keep: int | None = None,
    base: float = 10000.0,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """LLaMA with a landmark after every `block` tokens (section 4.2); it learns with all blocks in sight, and afterwards
    may `keep` the few that score highest, over texts of any length.
    """
    made = llama(
        vocabulary=vocabulary, width=width, hidden=hidden, depth=depth, heads=heads, base=base, dropout=dropout, eps=eps
    )
    mixer = spec(
        LandmarkAttention, heads=heads, bias=False, positions=spec(Rotary, base=base), keep=keep, dropout=dropout
    )
    made = made.swap("backbone.blocks.*.mixer", mixer)
    return made.swap("backbone", spec(Landmarks, body=made.get("backbone"), block=block))
