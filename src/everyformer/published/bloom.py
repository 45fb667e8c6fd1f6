"""BLOOM (BigScience, 2022)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import ALiBi
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "bloom",
    title="BLOOM: A 176B-Parameter Open-Access Multilingual Language Model",
    authors="BigScience Workshop",
    year=2022,
    arxiv="2211.05100",
    idea="A causal decoder of 59 languages whose only positions are penalties on distance, its embedding normalised.",
    tasks=("language-modelling",),
    default="560m",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4},
        "560m": {"width": 1024, "depth": 24, "heads": 16},
        "1b1": {"width": 1536, "depth": 24, "heads": 16},
        "1b7": {"width": 2048, "depth": 24, "heads": 16},
        "3b": {"width": 2560, "depth": 30, "heads": 32},
        "7b1": {"width": 4096, "depth": 30, "heads": 32},
        "176b": {"width": 14336, "depth": 70, "heads": 112},
    },
)
def bloom(
    *,
    vocabulary: int = 250880,
    width: int = 1024,
    depth: int = 24,
    heads: int = 16,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    eps: float = 1e-5,
) -> Design:
    """Section 3.2: ALiBi in place of positions in the embedding, a norm right after it, tied tables."""
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=attention_dropout),
        feedforward=spec(MLP, hidden=4 * width, activation="gelu_tanh"),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, norm=norm),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm, positions=spec(ALiBi)),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
