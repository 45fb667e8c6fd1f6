"""GTrans (Yang et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder, Fused
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Seq2Seq, Xavier
from everyformer.norms import PreNorm
from everyformer.positions import Sinusoidal
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "gtrans",
    title="GTrans: Grouping and Fusing Transformer Layers for Neural Machine Translation",
    authors="Yang et al.",
    year=2023,
    arxiv="2207.14467",
    idea="What the decoder reads, and what is predicted from, is a learned sum over groups of layers and not the last alone.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "group": 2, "dropout": 0.3},
        "base": {"width": 512, "hidden": 2048, "depth": 12, "heads": 8, "group": 2},
    },
)
def gtrans(
    *,
    vocabulary: int = 37000,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 12,
    heads: int = 8,
    group: int = 2,
    dropout: float = 0.1,
) -> Design:
    """Section 3: pre-norm layers in groups of `group`, fused in the encoder and in the decoder."""
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden, activation="relu"),
        residual=spec(PreNorm, dropout=dropout),
    )
    crossing = block.but(cross=(spec(CrossAttention, heads=heads),))
    fused = spec(Fused, group=group)
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, positions=spec(Sinusoidal), scaled=True, dropout=dropout),
            encoder=spec(Encoder, blocks=(block,) * depth, depth=fused),
            decoder=spec(Decoder, blocks=(crossing,) * depth, depth=fused),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )
