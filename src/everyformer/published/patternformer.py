"""Patternformer (Li et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patterns
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import Learned
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "patternformer",
    title="Patch Is Not All You Need",
    authors="Li et al.",
    year=2023,
    arxiv="2308.10729",
    idea="The tokens of a picture are the channels of a convolutional network, one learned pattern each, not patches.",
    tasks=("image-classification",),
)
def patternformer(
    *,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
    stages: tuple[int, ...] = (64, 128),
    patterns: int = 128,
    side: int = 16,
    width: int = 256,
    depth: int = 6,
    heads: int = 8,
    ratio: float = 4.0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Design:
    """Section 3: a ResNet's channels, a learned embedding for each, a class token and a plain encoder; sizes for CIFAR."""
    norm = spec(LayerNorm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patterns, channels=channels, image=image, stages=stages, patterns=patterns, side=side, first=1,
                positions=spec(Learned, length=patterns), dropout=dropout,
            ),
            backbone=plain(
                depth, mixer=spec(Attention, heads=heads), feedforward=spec(MLP, ratio=ratio), norm=norm, last=norm,
                drop_path=drop_path, dropout=dropout,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
