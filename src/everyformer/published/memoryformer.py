"""MemoryFormer (Ding et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MemoryLayer, Projected
from everyformer.heads import TokenHead
from everyformer.mixers import ProjectedAttention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "memoryformer",
    title="MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers",
    authors="Ding et al.",
    year=2024,
    arxiv="2411.12992",
    idea="Every linear map becomes tables: the signs of pieces of a token say which rows are added up.",
    tasks=("language-modelling",),
    default="tiny",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4},
        "tiny": {"width": 512, "depth": 6, "heads": 8},
    },
)
def memoryformer(
    *,
    vocabulary: int = 50304,
    width: int = 512,
    depth: int = 6,
    heads: int = 8,
    bits: int = 8,
    temperature: float = 1.0,
    base: float = 10000.0,
    fraction: float = 0.25,
    dropout: float = 0.0,
) -> Design:
    """Section 3.2: the feedforward's hidden pieces have two bits more, and nothing projects what attention took.

    The frame is Pythia's, as in the authors' code: places turn a `fraction` of each head and are not added to the tokens, where
    each would send a token to rows of its own; and the output has a table of its own.
    """
    layer = spec(MemoryLayer, bits=bits, temperature=temperature)
    block = spec(
        Block,
        mixer=spec(
            ProjectedAttention,
            heads=heads,
            projection=layer,
            positions=spec(Rotary, base=base, fraction=fraction),
            dropout=dropout,
        ),
        feedforward=spec(
            Projected,
            projection=layer,
            back=spec(MemoryLayer, bits=bits + 2, temperature=temperature),
            hidden=width // bits * (bits + 2),
            norm=spec(LayerNorm),
        ),
        residual=spec(PreNorm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
