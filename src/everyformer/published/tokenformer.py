"""TokenFormer (Wang et al., 2025)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import Pattention, Projected
from everyformer.heads import TiedHead
from everyformer.mixers import ProjectedAttention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "tokenformer",
    title="TokenFormer: Rethinking Transformer Scaling with Tokenized Model Parameters",
    authors="Wang et al.",
    year=2025,
    arxiv="2410.23168",
    idea="Every linear map becomes attention to learned tokens, so that a trained model grows by more tokens.",
    tasks=("language-modelling",),
    default="150m",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4},
        "150m": {"width": 768, "depth": 12, "heads": 12},
        "450m": {"width": 1024, "depth": 24, "heads": 16},
        "900m": {"width": 1280, "depth": 32, "heads": 16},
        "1.5b": {"width": 1536, "depth": 40, "heads": 16},
    },
)
def tokenformer(
    *,
    vocabulary: int = 50304,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    tokens: int | None = None,
    rotated: float = 0.25,
    dropout: float = 0.0,
) -> Design:
    """Section 3.2; `tokens` for each projection of attention, by default as many as the width, and four times as many
    for the feedforward. It grows by `ef.resize(model, "**.mixer.*projection.tokens", more)` and `**.feedforward.*`.
    """
    tokens = tokens or width
    projection = spec(Pattention, tokens=tokens)
    block = spec(
        Block,
        mixer=spec(
            ProjectedAttention,
            heads=heads,
            projection=projection,
            output_projection=projection,
            positions=spec(Rotary, fraction=rotated),
            dropout=dropout,
        ),
        feedforward=spec(Projected, projection=spec(Pattention, tokens=4 * tokens)),
        residual=spec(PreNorm, norm=spec(LayerNorm, affine=False), dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
