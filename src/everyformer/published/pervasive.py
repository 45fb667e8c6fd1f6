"""Pervasive attention (Elbayad et al., 2018)."""

from __future__ import annotations

from everyformer.backbones import Decoder, Encoder, Pervasive
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.heads import TiedHead, TokenHead
from everyformer.models import Seq2Seq, Xavier
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "pervasive-attention",
    title="Pervasive Attention: 2D Convolutional Neural Networks for Sequence-to-Sequence Prediction",
    authors="Elbayad et al.",
    year=2018,
    arxiv="1808.03867",
    idea="One 2D convolutional network over all pairs of target and source tokens translates, without encoder or attention.",
    tasks=("translation",),
    default="base",
    sizes={"tiny": {"width": 32, "layers": 8, "growth": 16}, "base": {}},
)
def pervasive(
    *,
    vocabulary: int = 10000,
    width: int = 128,
    layers: int = 24,
    growth: int = 32,
    kernel: int = 3,
    dropout: float = 0.2,
    tied: bool = True,
) -> Design:
    """Section 3: tables of source and target `width` wide, a DenseNet over their pairs, the largest value along the source.

    The tables are scaled by sqrt(width), so that under a norm of all channels of a cell they count as much as what layers add.
    """
    table = spec(Text, vocabulary=vocabulary, scaled=True, dropout=dropout)
    body = spec(Pervasive, layers=layers, growth=growth, kernel=kernel, dropout=dropout)
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=table,
            encoder=spec(Encoder, blocks=()),
            target=table,
            decoder=spec(Decoder, blocks=(body,)),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary, bias=True),
            start=spec(Xavier),
        )
    )
