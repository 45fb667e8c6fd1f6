"""Vision Transformer (Dosovitskiy et al., 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention, plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "vit",
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    authors="Dosovitskiy et al.",
    year=2021,
    arxiv="2010.11929",
    idea="Cut a picture into patches, treat each as a word, and classify with a plain transformer encoder.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "tiny": {"width": 192, "depth": 12, "heads": 3},
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
        "huge": {"width": 1280, "depth": 32, "heads": 16, "patch": 14},
    },
)
def vit(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3.1: a class token, learned positions, pre-norm blocks.

    `image` is the size that positions are built for; they are resampled for others (section 3.2).
    """
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    positions = spec(LearnedGrid, grid=(side, side))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, first=1, positions=positions, dropout=dropout
            ),
            backbone=plain(
                depth, mixer=attention(heads, qkv_bias),
                feedforward=spec(MLP, hidden=int(width * ratio)), norm=norm, last=norm, drop_path=drop_path,
                dropout=dropout,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
