"""Hierarchical autoregressive transformers (Neitemeier et al., 2025)."""

from __future__ import annotations

from everyformer.backbones import Decoder, Spelled
from everyformer.designs import Design
from everyformer.embeddings import SpelledText
from everyformer.heads import TokenHead
from everyformer.models import Model, Normal
from everyformer.published.hnet import rotary_body
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "hierarchical-autoregressive",
    title="Hierarchical Autoregressive Transformers: Combining Byte- and Word-Level Processing for Robust, Adaptable Language "
    "Models",
    authors="Neitemeier et al.",
    year=2025,
    arxiv="2501.10322",
    idea="A small model reads the bytes of each word, a large one goes from word to word, a small one spells the next.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {"width": 96, "inner_width": 128, "outer": 1, "depth": 3, "heads": 4},
        "small": {"width": 512, "inner_width": 1024, "outer": 4, "depth": 12, "heads": 16, "outer_heads": 8},
    },
)
def hierarchical_autoregressive(
    *,
    vocabulary: int = 257,
    width: int = 512,
    inner_width: int = 1024,
    outer: int = 4,
    depth: int = 12,
    heads: int = 16,
    outer_heads: int | None = None,
) -> Design:
    """Section 2: the last id of the vocabulary stands before every word (`data.tokens=spelled`).

    The sizes are ours; encoder and decoder have `outer` layers each.
    """
    small = rotary_body(outer, outer_heads or heads)
    spelled = spec(Spelled, encoder=small, inner=rotary_body(depth, heads), decoder=small, inner_width=inner_width)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(SpelledText, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(spelled,)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
