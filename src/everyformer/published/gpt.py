"""GPT-2 (Radford et al., 2019)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Learned
from everyformer.registry import system
from everyformer.specs import spec

_OPT = {"vocabulary": 50272, "length": 2048, "activation": "relu"}


@system(
    "gpt",
    title="Language Models are Unsupervised Multitask Learners",
    authors="Radford et al.",
    year=2019,
    idea="A causal decoder that predicts the next token does many tasks without being trained for them.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4, "length": 64, "bias": False},
        "small": {"width": 768, "depth": 12, "heads": 12},
        "medium": {"width": 1024, "depth": 24, "heads": 16},
        "large": {"width": 1280, "depth": 36, "heads": 20},
        "xl": {"width": 1600, "depth": 48, "heads": 25},
        "opt-125m": {"width": 768, "depth": 12, "heads": 12, **_OPT},
        "opt-1.3b": {"width": 2048, "depth": 24, "heads": 32, **_OPT},
        "opt-6.7b": {"width": 4096, "depth": 32, "heads": 32, **_OPT},
    },
)
def gpt(
    *,
    vocabulary: int = 50257,
    length: int = 1024,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    heads: int = 12,
    activation: str = "gelu_tanh",
    dropout: float = 0.0,
    bias: bool = True,
) -> Design:
    """Section 2.3: pre-norm, a last norm, learned positions, tied embeddings. OPT (2205.01068) has rectified units."""
    norm = spec(LayerNorm, bias=bias)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, bias=bias, dropout=dropout),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation, bias=bias),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
