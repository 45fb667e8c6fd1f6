"""Supervised learning with masked image modelling beside it (Chen et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import MaskedPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean, WordsBeside
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "supervised-mim",
    title="Improve Supervised Representation Learning with Masked Image Modeling",
    authors="Chen et al.",
    year=2023,
    arxiv="2312.00950",
    idea="While a ViT learns classes, a shallow decoder on it must also name the patches that were hidden.",
    tasks=("image-classification",),
    default="base",
    sizes={"base": {"width": 768, "heads": 12}},
)
def supervised_mim(
    *,
    classes: int = 1000,
    visual_words: int = 1024,
    image: int = 224,
    patch: int = 14,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    decoder_depth: int = 2,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: train it with `objectives.ClassesAndWords`; in use the decoder does not run."""
    norm = spec(LayerNorm, eps=eps)
    mixer, mlp = spec(Attention, heads=heads), spec(MLP, ratio=ratio)
    side = image // patch
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                MaskedPatches, patch=patch, channels=channels, image=image, dropout=dropout,
                positions=spec(LearnedGrid, grid=(side, side)),
            ),
            backbone=plain(
                depth, mixer=mixer, feedforward=mlp, norm=norm, last=norm, drop_path=drop_path, dropout=dropout
            ),
            head=spec(
                WordsBeside,
                head=spec(ClassHead, classes=classes, pool=spec(Mean)),
                decoder=plain(decoder_depth, mixer=mixer, feedforward=mlp, norm=norm, last=norm),
                words=visual_words,
            ),
            start=spec(Xavier),
        )
    )  # fmt: skip
