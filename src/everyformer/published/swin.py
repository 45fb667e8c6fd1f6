"""Swin Transformer (Liu et al., 2021) and its second version (Liu et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Block, PatchMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention, CosineAttention, Windows
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, UpdateNorm
from everyformer.positions import LogGrid, RelativeGrid
from everyformer.published.bodies import branches
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "swin",
    title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
    authors="Liu et al.",
    year=2021,
    arxiv="2103.14030",
    idea="Attention inside small windows, which every second block shifts, in a pyramid of four stages.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "tiny": {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
        "small": {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
        "base": {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
        "large": {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
    },
)
def swin(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    width: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (3, 6, 12, 24),
    window: int = 7,
    ratio: float = 4.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.2,
) -> Design:
    """Section 3: the width doubles from stage to stage; `image` is the size of an example, any other is taken."""
    same_length(depths=depths, heads=heads)
    norm = spec(LayerNorm)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        relative = spec(RelativeGrid, window=window)
        attention = spec(Attention, heads=heads[stage], positions=relative, dropout=attention_dropout)
        mixer = spec(Windows, mixer=attention, size=window, shift=window // 2 if index % 2 else 0)
        return pre_norm(mixer, spec(MLP, ratio=ratio, dropout=dropout), norm, rate, dropout=dropout)

    widths = [width * 2**i for i in range(len(depths))]
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm, dropout=dropout),
            backbone=pyramid(widths, depths, block, enter=spec(PatchMerging), drop_path=drop_path, norm=norm),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Normal),
        )
    )


@system(
    "swin-v2",
    title="Swin Transformer V2: Scaling Up Capacity and Resolution",
    authors="Liu et al.",
    year=2022,
    arxiv="2111.09883",
    idea="Swin with cosine attention, positions from a small network on log-spaced offsets, and normalised updates.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "tiny": {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
        "small": {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
        "base": {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
        "large": {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48), "image": 192, "window": 12},
    },
)
def swin_v2(
    *,
    classes: int = 1000,
    image: int = 256,
    patch: int = 4,
    channels: int = 3,
    width: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (3, 6, 12, 24),
    window: int = 8,
    trained: tuple[int, ...] | None = None,
    ratio: float = 4.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.2,
) -> Design:
    """Section 3; `trained` are the windows of each stage that the scale of offsets was made for, where others."""
    same_length(depths=depths, heads=heads, trained=trained or depths)
    norm = spec(LayerNorm)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        offsets = spec(LogGrid, window=window, trained=trained[stage] if trained else None)
        attention = spec(CosineAttention, heads=heads[stage], positions=offsets, dropout=attention_dropout)
        return spec(
            Block,
            mixer=spec(Windows, mixer=attention, size=window, shift=window // 2 if index % 2 else 0),
            feedforward=spec(MLP, ratio=ratio, dropout=dropout),
            residual=spec(UpdateNorm, norm=norm, dropout=dropout, branches=branches(None, rate)),
        )

    widths = [width * 2**i for i in range(len(depths))]
    enter = spec(PatchMerging, norm=None, after=norm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm, dropout=dropout),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path, norm=norm),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Normal),
        )
    )
