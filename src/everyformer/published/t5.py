"""T5 and T5 1.1 (Raffel et al., 2020)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP, Gated
from everyformer.heads import TiedHead, TokenHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import FanIn, Seq2Seq
from everyformer.norms import PreNorm, RMSNorm
from everyformer.positions import Buckets
from everyformer.registry import system
from everyformer.specs import spec

_V11 = {"activation": "gelu_tanh", "gated": True, "tied": False}


@system(
    "t5",
    title="Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    authors="Raffel et al.",
    year=2020,
    arxiv="1910.10683",
    idea="Every text task is text in, text out: one encoder-decoder with relative positions learns them all.",
    tasks=("translation",),
    default="small",
    sizes={
        "tiny": {"width": 256, "hidden": 1024, "depth": 4, "heads": 4},
        "small": {"width": 512, "hidden": 2048, "depth": 6, "heads": 8},
        "base": {"width": 768, "hidden": 3072, "depth": 12, "heads": 12},
        "large": {"width": 1024, "hidden": 4096, "depth": 24, "heads": 16},
        "3b": {"width": 1024, "hidden": 16384, "depth": 24, "heads": 32, "head_width": 128},
        "11b": {"width": 1024, "hidden": 65536, "depth": 24, "heads": 128, "head_width": 128},
        "v1.1-small": {"width": 512, "hidden": 1024, "depth": 8, "heads": 6, **_V11},
        "v1.1-base": {"width": 768, "hidden": 2048, "depth": 12, "heads": 12, **_V11},
        "v1.1-large": {"width": 1024, "hidden": 2816, "depth": 24, "heads": 16, **_V11},
        "v1.1-xl": {"width": 2048, "hidden": 5120, "depth": 24, "heads": 32, **_V11},
        "v1.1-xxl": {"width": 4096, "hidden": 10240, "depth": 24, "heads": 64, **_V11},
    },
)
def t5(
    *,
    vocabulary: int = 32128,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 6,
    decoder_depth: int | None = None,
    heads: int = 8,
    head_width: int = 64,
    buckets: int = 32,
    farthest: int = 128,
    activation: str = "relu",
    gated: bool = False,
    tied: bool = True,
    dropout: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 2.1: pre-norm without biases, scores not scaled, one table of distances for all layers of a stack.

    A `tied` head divides its input by sqrt(D). Version 1.1 is `gated` and not tied (Shazeer, 2020). 'tiny' is the one of
    Tay et al. (2022, 2109.10686).
    """
    norm = spec(RMSNorm, eps=eps)
    residual = spec(PreNorm, norm=norm, dropout=dropout)
    attention = spec(Attention, heads=heads, head_width=head_width, bias=False, scale=1.0, dropout=dropout)
    cross = spec(CrossAttention, heads=heads, head_width=head_width, bias=False, scale=1.0, dropout=dropout)
    feedforward = spec(Gated if gated else MLP, hidden=hidden, activation=activation, bias=False, dropout=dropout)
    encode = spec(Block, mixer=attention, feedforward=feedforward, residual=residual)
    decode = spec(Block, mixer=attention, cross=(cross,), feedforward=feedforward, residual=residual)
    distances = spec(Buckets, buckets=buckets, farthest=farthest)
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, dropout=dropout),
            encoder=spec(Encoder, blocks=(encode,) * depth, norm=norm, positions=distances),
            decoder=spec(
                Decoder,
                blocks=(decode,) * (decoder_depth or depth),
                norm=norm,
                positions=distances.but(both_ways=False),
            ),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary, scale=width**-0.5 if tied else 1.0),
            start=spec(FanIn),
        )
    )
