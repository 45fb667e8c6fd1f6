"""CRATE, the white-box transformer (Yu et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import NormedPatches
from everyformer.feedforward import SparseCoding
from everyformer.heads import ClassHead
from everyformer.mixers import SubspaceAttention
from everyformer.models import Model
from everyformer.norms import LayerNorm, PreNorm, Replacement
from everyformer.positions import LearnedGrid
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "crate",
    title="White-Box Transformers via Sparse Rate Reduction: Compression Is All There Is?",
    authors="Yu et al.",
    year=2023,
    arxiv="2311.13110",
    idea="Each block is two steps of an optimisation: attention compresses the tokens to subspaces, ISTA makes them sparse.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "tiny": {"width": 384, "depth": 12, "heads": 6},
        "small": {"width": 576, "depth": 12, "heads": 12},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
def crate(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    step: float = 0.1,
    threshold: float = 0.1,
) -> Design:
    """Section 2.3 and the authors' code: the encoder, with a class token."""
    side = image // patch
    block = spec(
        Block,
        mixer=spec(SubspaceAttention, heads=heads),
        feedforward=spec(SparseCoding, step=step, threshold=threshold),
        residual=(spec(PreNorm), spec(Replacement)),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                NormedPatches,
                patch=patch,
                channels=channels,
                image=image,
                first=1,
                positions=spec(LearnedGrid, grid=(side, side), std=1.0),
                patch_norm=spec(LayerNorm),
            ),
            backbone=spec(Encoder, blocks=(block,) * depth),
            head=spec(ClassHead, classes=classes, norm=spec(LayerNorm)),
        )
    )
