"""Hiera (Ryali et al., A Hierarchical Vision Transformer without the Bells-and-Whistles, 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Pyramid, QueryPooling, Stage
from everyformer.contracts import Mixer
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention, Windows
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import branches, rising
from everyformer.published.pyramids import pre_norm
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "hiera",
    title="Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
    authors="Ryali et al.",
    year=2023,
    arxiv="2306.00989",
    idea="A plain pyramid: attention inside units that are masked as wholes in pre-training, queries pooled between stages.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "tiny": {"width": 96, "heads": 1, "depths": (1, 2, 7, 2)},
        "small": {"width": 96, "heads": 1, "depths": (1, 2, 11, 2)},
        "base": {"width": 96, "heads": 1, "depths": (2, 3, 16, 3)},
        "base-plus": {"width": 112, "heads": 2, "depths": (2, 3, 16, 3)},
        "large": {"width": 144, "heads": 2, "depths": (2, 6, 36, 4)},
        "huge": {"width": 256, "heads": 4, "depths": (2, 6, 36, 4)},
    },
)
def hiera(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    width: int = 96,
    heads: int = 1,
    depths: tuple[int, ...] = (2, 3, 16, 3),
    unit: int = 8,
    local: int = 2,
    ratio: float = 4.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3 and table 2: width and heads double from stage to stage, units halve; after `local` stages attention
    sees the whole map. `image` is the size that positions are built for.
    """
    norm = spec(LayerNorm, eps=eps)
    mlp = spec(MLP, ratio=ratio)
    rates = iter(rising(drop_path, sum(depths)))
    stages = []
    for i, depth in enumerate(depths):
        blocks, enter = [], None
        mixer: Spec[Mixer] = spec(Attention, heads=heads * 2**i)
        if i < local:
            mixer = spec(Windows, mixer=mixer, size=unit // 2**i)
        for j in range(depth):
            rate = next(rates)
            if i and not j:
                before = unit // 2 ** (i - 1) if i <= local else None
                passed = branches(None, rate)
                enter = spec(QueryPooling, heads=heads * 2**i, unit=before, norm=norm, branches=passed)
                blocks.append(
                    spec(Block, mixer=None, feedforward=mlp, residual=spec(PreNorm, norm=norm, branches=passed))
                )
            else:
                blocks.append(pre_norm(mixer, mlp, norm, rate))
        stages.append(spec(Stage, to=width * 2**i, enter=enter, blocks=tuple(blocks)))
    positions = spec(LearnedGrid, grid=(image // 4, image // 4))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(OverlapPatches, channels=channels, image=image, positions=positions),
            backbone=spec(Pyramid, stages=tuple(stages)),
            head=spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm),
            start=spec(Normal),
        )
    )
