"""MLP-Mixer (Tolstikhin et al., 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import TokenMLP
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "mlp-mixer",
    title="MLP-Mixer: An all-MLP Architecture for Vision",
    authors="Tolstikhin et al.",
    year=2021,
    arxiv="2105.01601",
    idea="No attention and no convolution: one MLP across the patches of a channel, one across the channels of a patch.",
    tasks=("image-classification",),
    default="b16",
    sizes={
        "s32": {"width": 512, "depth": 8, "patch": 32},
        "s16": {"width": 512, "depth": 8},
        "b32": {"width": 768, "depth": 12, "patch": 32},
        "b16": {"width": 768, "depth": 12},
        "l32": {"width": 1024, "depth": 24, "patch": 32},
        "l16": {"width": 1024, "depth": 24},
    },
)
def mlp_mixer(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    token_ratio: float = 0.5,
    ratio: float = 4.0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 2 and table 1: no positions, the mean of the patches classified; `token_ratio` widens the MLP across patches."""
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    mixer = spec(TokenMLP, grid=(side, side), hidden=int(width * token_ratio), dropout=dropout)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=patch, channels=channels, image=image),
            backbone=plain(
                depth, mixer=mixer, feedforward=spec(MLP, ratio=ratio, dropout=dropout), norm=norm, last=norm,
                drop_path=drop_path,
            ),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Xavier),
        )
    )  # fmt: skip
