"""GPT-NeoX-20B (Black et al., 2022) and Pythia, which has its design."""

from __future__ import annotations

from everyformer.backbones import Decoder, ParallelBlock
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec

_PYTHIA = {"vocabulary": 50304}


@system(
    "gpt-neox",
    title="GPT-NeoX-20B: An Open-Source Autoregressive Language Model",
    authors="Black et al.",
    year=2022,
    arxiv="2204.06745",
    idea="A causal decoder whose attention and feedforward work side by side, with a quarter of each head turned by place.",
    tasks=("language-modelling",),
    default="20b",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4},
        "pythia-70m": {"width": 512, "depth": 6, "heads": 8, **_PYTHIA},
        "pythia-160m": {"width": 768, "depth": 12, "heads": 12, **_PYTHIA},
        "pythia-410m": {"width": 1024, "depth": 24, "heads": 16, **_PYTHIA},
        "pythia-1b": {"width": 2048, "depth": 16, "heads": 8, **_PYTHIA},
        "20b": {"width": 6144, "depth": 44, "heads": 64},
    },
)
def gpt_neox(
    *,
    vocabulary: int = 50432,
    width: int = 6144,
    hidden: int | None = None,
    depth: int = 44,
    heads: int = 64,
    base: float = 10000.0,
    fraction: float = 0.25,
    activation: str = "gelu",
    bias: bool = True,
    dropout: float = 0.0,
    eps: float = 1e-5,
) -> Design:
    """Section 2.1: rotary positions on a `fraction` of each head, parallel layers with a norm each, no tied embeddings."""
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        ParallelBlock,
        mixer=spec(
            Attention, heads=heads, bias=bias, positions=spec(Rotary, base=base, fraction=fraction), dropout=dropout
        ),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        norm=norm,
        shared=False,
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
