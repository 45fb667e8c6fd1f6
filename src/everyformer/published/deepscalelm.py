"""DeepScaleLM (Kedia et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import Attention
from everyformer.models import DeepScale, Model
from everyformer.norms import LayerNorm, UnitPostNorm, UnitPreNorm
from everyformer.positions import Learned
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "deepscalelm",
    title="Transformers Get Stable: An End-to-End Signal Propagation Theory for Language Models",
    authors="Kedia et al.",
    year=2024,
    arxiv="2403.09635",
    idea="Formulas follow variance and correlation through every layer, and tell how to start hundreds of layers at variance 1.",
    tasks=("language-modelling",),
    default="192",
    sizes={
        "nano": {"width": 64, "depth": 48, "heads": 4, "length": 64},
        "192": {"width": 1024, "depth": 192, "heads": 16, "length": 256},
    },
)
def deepscalelm(
    *,
    vocabulary: int = 30522,
    length: int = 256,
    width: int = 1024,
    depth: int = 192,
    heads: int = 16,
    post_norm: bool = True,
    correlation: float = 0.221,
    dropout: float = 0.0,
) -> Design:
    """Section 4, as a causal decoder: of each residual the update has a share of 1 / `depth` of the variance.

    Rectified units, which the formulas are for. `correlation` is that of the embeddings of two tokens of a text.
    """
    residual = spec(UnitPostNorm if post_norm else UnitPreNorm, share=1 / depth, dropout=dropout)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=4 * width, activation="relu"),
        residual=residual,
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=None if post_norm else spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(DeepScale, correlation=correlation),
        )
    )
