"""Audio Spectrogram Transformer (Gong et al., 2021)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import SpectrogramPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, LeadingMean
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "ast",
    title="AST: Audio Spectrogram Transformer",
    authors="Gong et al.",
    year=2021,
    arxiv="2104.01778",
    idea="Classify sound with a ViT over overlapping patches of its spectrogram, without any convolutional network.",
    tasks=("audio-classification",),
    default="base",
    sizes={
        "digits": {
            "width": 96, "depth": 3, "heads": 4, "ratio": 2.0, "classes": 10, "mels": 40, "frames": 80,
            "patch": 8, "stride": 8, "dropout": 0.1,
        },
        "tiny": {"width": 192, "depth": 12, "heads": 3},
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
    },
)  # fmt: skip
def ast(
    *,
    classes: int = 527,
    mels: int = 128,
    frames: int = 1024,
    patch: int = 16,
    stride: int = 10,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 2.1: a class and a distillation token, learned positions, pre-norm blocks, a norm before the classes.

    `frames` is the length that positions are built for; they are resampled for others (section 2.2). 'digits' is a
    compact size of this library for one second of speech.
    """
    norm = spec(LayerNorm, eps=eps)
    grid = SpectrogramPatches.grid(mels, frames, patch, stride)
    block = spec(
        Block,
        mixer=attention(heads, qkv_bias),
        feedforward=spec(MLP, hidden=int(width * ratio)),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                SpectrogramPatches, mels=mels, frames=frames, patch=patch, stride=stride, first=2,
                positions=spec(LearnedGrid, grid=grid), dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(block,) * depth, norm=norm),
            head=spec(ClassHead, classes=classes, pool=spec(LeadingMean), norm=norm),
            start=spec(Xavier),
        )
    )  # fmt: skip
