"""The Transformer for sequence to sequence (Vaswani et al., 2017)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead, TokenHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Seq2Seq, Xavier
from everyformer.norms import LayerNorm, PostNorm, PreNorm
from everyformer.positions import Sinusoidal
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "transformer",
    title="Attention Is All You Need",
    authors="Vaswani et al.",
    year=2017,
    arxiv="1706.03762",
    idea="Translate with attention alone: an encoder, and a decoder that attends to it.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "dropout": 0.3},
        "base": {"width": 512, "hidden": 2048, "depth": 6, "heads": 8, "dropout": 0.1},
        "big": {"width": 1024, "hidden": 4096, "depth": 6, "heads": 16, "dropout": 0.3},
    },
)
def transformer(
    *,
    vocabulary: int = 37000,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 6,
    heads: int = 8,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    pre_norm: bool = False,
    tied: bool = True,
) -> Design:
    """Section 3; one vocabulary for source and target, its table tied to the output (section 3.4)."""
    residual = spec(PreNorm if pre_norm else PostNorm, dropout=dropout)
    attention = spec(Attention, heads=heads, dropout=attention_dropout)
    cross = spec(CrossAttention, heads=heads, dropout=attention_dropout)
    mlp = spec(MLP, hidden=hidden, activation="relu")
    last = spec(LayerNorm) if pre_norm else None
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, positions=spec(Sinusoidal), scaled=True, dropout=dropout),
            encoder=spec(
                Encoder,
                blocks=(spec(Block, mixer=attention, feedforward=mlp, residual=residual),) * depth,
                norm=last,
            ),
            decoder=spec(
                Decoder,
                blocks=(spec(Block, mixer=attention, cross=(cross,), feedforward=mlp, residual=residual),) * depth,
                norm=last,
            ),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )
