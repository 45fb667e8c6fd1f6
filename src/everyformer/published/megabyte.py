"""MEGABYTE (Yu et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder, Multiscale
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.positions import Learned
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "megabyte",
    title="MEGABYTE: Predicting Million-byte Sequences with Multiscale Transformers",
    authors="Yu et al.",
    year=2023,
    arxiv="2305.07185",
    idea="Bytes in patches: a large model reads patches, and a small one says the bytes of each, one after the other.",
    tasks=("language-modelling",),
    default="1.3b+350m",
    sizes={
        "nano": {
            "width": 192, "depth": 4, "heads": 4, "local_width": 96, "local_depth": 3, "local_heads": 3, "patch": 4,
            "length": 64,
        },
        "1.3b+350m": {"width": 2048, "depth": 24, "heads": 32, "local_width": 1024, "local_depth": 24, "local_heads": 16},
    },
)  # fmt: skip
def megabyte(
    *,
    vocabulary: int = 256,
    length: int = 8192,
    patch: int = 8,
    width: int = 2048,
    depth: int = 24,
    heads: int = 32,
    local_width: int = 1024,
    local_depth: int = 24,
    local_heads: int = 16,
) -> Design:
    """Section 2.1: `width` is that of a whole patch; both bodies are decoders of pre-norm blocks."""

    def body(layers: int, heads: int) -> Spec[Encoder]:
        block = spec(Block, mixer=spec(Attention, heads=heads), feedforward=spec(MLP))
        return spec(Encoder, blocks=(block,) * layers, norm=spec(LayerNorm))

    multiscale = spec(
        Multiscale,
        patch=patch,
        local_width=local_width,
        positions=spec(Learned, length=length),
        outer=body(depth, heads),
        inner=body(local_depth, local_heads),
    )
    return Design(
        spec(
            Model,
            width=width // patch + local_width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(multiscale,)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
