"""Whisper (Radford et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder
from everyformer.designs import Design
from everyformer.embeddings import SpectrogramConvs, Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Normal, Seq2Seq
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Learned, SinusoidalHalves
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "whisper",
    title="Robust Speech Recognition via Large-Scale Weak Supervision",
    authors="Radford et al.",
    year=2022,
    arxiv="2212.04356",
    idea="A plain encoder-decoder from spectrograms to text learns speech from 680,000 hours of captions found on the web.",
    tasks=("speech-recognition",),
    default="tiny",
    sizes={
        "tiny": {"width": 384, "depth": 4, "heads": 6},
        "base": {"width": 512, "depth": 6, "heads": 8},
        "small": {"width": 768, "depth": 12, "heads": 12},
        "medium": {"width": 1024, "depth": 24, "heads": 16},
        "large": {"width": 1280, "depth": 32, "heads": 20},
        "large-v3": {"width": 1280, "depth": 32, "heads": 20, "mels": 128, "vocabulary": 51866},
    },
)
def whisper(
    *,
    vocabulary: int = 51865,
    mels: int = 80,
    frames: int = 3000,
    length: int = 448,
    width: int = 384,
    hidden: int | None = None,
    depth: int = 4,
    decoder_depth: int | None = None,
    heads: int = 6,
    activation: str = "gelu",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> Design:
    """Section 2.2: two convolutions halve the `frames`, sines say where each stood; text has learned positions to `length`.

    The slowest of the sines turns by 1/10000 of a radian a step, as in their code, and not by a little more. A bias of keys
    is here, which their code leaves out, for softmax does not see it.
    """
    norm = spec(LayerNorm)
    residual = spec(PreNorm, norm=norm, dropout=dropout)
    attention = spec(Attention, heads=heads, dropout=attention_dropout)
    cross = spec(CrossAttention, heads=heads, dropout=attention_dropout)
    mlp = spec(MLP, hidden=hidden or 4 * width, activation=activation)
    encode = spec(Block, mixer=attention, feedforward=mlp, residual=residual)
    decode = spec(Block, mixer=attention, cross=(cross,), feedforward=mlp, residual=residual)
    rates = width // 2
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(
                SpectrogramConvs,
                mels=mels,
                frames=frames,
                positions=spec(SinusoidalHalves, base=10000.0 ** (rates / (rates - 1))),
                dropout=dropout,
            ),
            target=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            encoder=spec(Encoder, blocks=(encode,) * depth, norm=norm),
            decoder=spec(Decoder, blocks=(decode,) * (decoder_depth or depth), norm=norm),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
