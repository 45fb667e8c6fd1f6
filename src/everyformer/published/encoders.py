"""Encoder-decoders in which the encoder is most of the model: several encoders, or a deep one."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Decoder, Encoder, Summed
from everyformer.contracts import Mixer
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.errors import UnknownName
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import (
    Attention,
    CrossAttention,
    FourierMixer,
    GatedWindow,
    LongShortTerm,
    StaticExpansion,
)
from everyformer.models import Normal, Seq2Seq, Xavier
from everyformer.norms import LayerNorm, PreNorm, RMSNorm
from everyformer.positions import Rotary, Sinusoidal
from everyformer.registry import system
from everyformer.specs import Spec, spec


def mixer_of(kind: str, heads: int) -> Spec[Mixer]:
    """What each of the kinds of encoder mixes its tokens with."""
    kinds: dict[str, Spec[Mixer]] = {
        "attention": spec(Attention, heads=heads),
        "convolution": spec(GatedWindow),
        "recurrence": spec(LongShortTerm),
        "expansion": spec(StaticExpansion),
        "fourier": spec(FourierMixer),
    }
    if kind not in kinds:
        raise UnknownName("kind of encoder", kind, kinds)
    return kinds[kind]


@system(
    "multi-encoder-transformer",
    title="Heterogeneous Encoders Scaling In The Transformer For Neural Machine Translation",
    authors="Hu et al.",
    year=2023,
    arxiv="2312.15872",
    idea="Encoders that mix in different ways read the same sentence side by side; the decoder attends to their sum.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "encoder_depth": 2, "heads": 4, "dropout": 0.3},
        "base": {"width": 512, "hidden": 2048, "depth": 6, "heads": 8},
    },
)
def multi_encoder(
    *,
    vocabulary: int = 37000,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 6,
    encoder_depth: int | None = None,
    heads: int = 8,
    encoders: tuple[str, ...] = ("attention", "convolution", "recurrence", "expansion", "fourier"),
    dropout: float = 0.1,
) -> Design:
    """Section 3: pre-norm stacks that differ in their mixer alone."""
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden, activation="relu"),
        residual=spec(PreNorm, dropout=dropout),
    )
    stacks = (
        spec(Encoder, blocks=(block.but(mixer=mixer_of(kind, heads)),) * (encoder_depth or depth)) for kind in encoders
    )
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, positions=spec(Sinusoidal), scaled=True, dropout=dropout),
            encoder=spec(Summed, bodies=tuple(stacks), norm=spec(LayerNorm)),
            decoder=spec(
                Decoder,
                blocks=(block.but(cross=(spec(CrossAttention, heads=heads),)),) * depth,
                norm=spec(LayerNorm),
            ),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )


@system(
    "return-of-the-encoder",
    title="Return of the Encoder: Maximizing Parameter Efficiency for SLMs",
    authors="Elfeki et al.",
    year=2025,
    arxiv="2501.16273",
    idea="A small model answers sooner and faster with two thirds of its layers in an encoder that reads once.",
    tasks=("translation",),
    default="330m",
    sizes={
        "tiny": {
            "width": 128, "hidden": 344, "depth": 4, "decoder_depth": 2, "heads": 4, "key_heads": 2, "head_width": 32,
        },
        "330m": {},
    },
)  # fmt: skip
def return_of_the_encoder(
    *,
    vocabulary: int = 32128,
    width: int = 1024,
    hidden: int = 4096,
    depth: int = 20,
    decoder_depth: int = 10,
    heads: int = 6,
    key_heads: int = 3,
    head_width: int = 64,
    dropout: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Their code: grouped queries in all attention, narrower than the model, with rotary positions but in cross-attention."""
    shape: dict[str, Any] = {"heads": heads, "key_heads": key_heads, "head_width": head_width, "dropout": dropout}
    norm = spec(RMSNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Attention, **shape, positions=spec(Rotary)),
        feedforward=spec(MLP, hidden=hidden, activation="gelu_tanh"),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    crossing = block.but(cross=(spec(CrossAttention, **shape),))
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary),
            encoder=spec(Encoder, blocks=(block,) * depth, norm=norm),
            decoder=spec(Decoder, blocks=(crossing,) * decoder_depth, norm=norm),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
