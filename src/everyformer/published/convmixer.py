"""ConvMixer (Trockman and Kolter, 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import ActivatedPatches
from everyformer.feedforward import Pointwise
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Depthwise
from everyformer.models import Model
from everyformer.norms import BatchNorm, Identity, Replacement, UpdateNorm
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "convmixer",
    title="Patches Are All You Need?",
    authors="Trockman and Kolter",
    year=2023,
    arxiv="2201.09792",
    idea="Patches, then only two convolutions again and again: of each channel over space, and of each cell over channels.",
    tasks=("image-classification",),
    default="1536-20",
    sizes={
        "1536-20": {"width": 1536, "depth": 20},
        "768-32": {"width": 768, "depth": 32, "kernel": 7, "activation": "relu"},
        "1024-20": {"width": 1024, "depth": 20, "patch": 14},
        "256-8": {"width": 256, "depth": 8, "kernel": 5, "patch": 2, "image": 32, "classes": 10},
    },
)
def convmixer(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 7,
    channels: int = 3,
    width: int = 1536,
    depth: int = 20,
    kernel: int = 9,
    activation: str = "gelu",
    eps: float = 1e-5,
) -> Design:
    """Section 2: only the first of both convolutions has a way around it; the last size is that of CIFAR-10 (section 3)."""
    norm = spec(BatchNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Depthwise, kernel=kernel, activation=activation),
        feedforward=spec(Pointwise, activation=activation, norm=norm),
        residual=(spec(UpdateNorm, norm=norm), spec(Replacement, norm=spec(Identity))),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                ActivatedPatches, patch=patch, channels=channels, image=image, activation=activation, norm=norm
            ),
            backbone=spec(Encoder, blocks=(block,) * depth),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
        )
    )
