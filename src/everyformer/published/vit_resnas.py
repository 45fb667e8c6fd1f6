"""ViT-ResNAS (Liao et al., 2021)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, ResidualMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import ResidualPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec

Each = tuple[tuple[int, ...], ...]
"""A number for each block of each stage."""


@system(
    "vit-resnas",
    title="Searching for Efficient Multi-Stage Vision Transformers",
    authors="Liao et al.",
    year=2021,
    arxiv="2109.00642",
    idea="A ViT in three stages whose merging has a residual, with the width of every part found by a search.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "reference": {
            "widths": (192, 384, 768), "heads": ((3,) * 4, (6,) * 4, (12,) * 4), "head_widths": (64, 64, 64),
            "hidden": ((768,) * 4, (1536,) * 4, (3072,) * 4),
        },
        "tiny": {},
        "small": {
            "widths": (220, 440, 880),
            "heads": ((5, 5, 7, 5, 5, 5), (10, 10, 10, 10, 12, 12), (16, 12, 16, 12, 14)),
            "hidden": (
                (880, 880, 800, 720, 720, 720), (1760, 1440, 1920, 1600, 1600, 1440), (3200, 3200, 2880, 2240, 2560),
            ),
        },
        "medium": {
            "widths": (240, 640, 880),
            "heads": ((7, 6, 7, 8, 7, 8, 6), (10, 14, 14, 16, 14, 16, 16), (16, 10, 16, 12, 16, 14)),
            "hidden": (
                (960, 960, 800, 960, 880, 880, 800), (1120, 1760, 1920, 1760, 1440, 1760, 1920),
                (3200, 3840, 3840, 3200, 3520, 3520),
            ),
        },
    },
)  # fmt: skip
def vit_resnas(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 14,
    middle: int = 24,
    channels: int = 3,
    widths: tuple[int, ...] = (176, 352, 704),
    heads: Each = ((3, 3, 3, 4, 4), (10, 8, 8, 8, 10, 10), (10, 10, 10, 8, 8)),
    head_widths: tuple[int, ...] = (32, 48, 64),
    hidden: Each = ((704, 576, 640, 576, 704), (1408, 1408, 1280, 1408, 1280, 1024), (2560, 1792, 2816, 2816, 2560)),
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3; `heads` and `hidden` are those of each block of each stage: a block with 0 of both is left out, and its
    place stays, so that what `training.architectures` finds has the names of the network that it was found in.
    """
    same_length(widths=widths, heads=heads, head_widths=head_widths, hidden=hidden)
    for many, wide in zip(heads, hidden, strict=True):
        same_length(heads=many, hidden=wide)
    norm = spec(LayerNorm, eps=eps)
    sides = [max(-(-image // patch) // 2**i, 1) for i in range(len(widths))]

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        many, wide = heads[stage][index], hidden[stage][index]
        if not many and not wide:
            return spec(Block, mixer=None, feedforward=None)
        mixer = spec(Attention, heads=many, head_width=head_widths[stage])
        return pre_norm(mixer, spec(MLP, hidden=wide), norm, rate)

    def more(stage: int) -> dict[str, Any]:
        return {"places": spec(LearnedGrid, grid=(sides[stage],) * 2)} if stage else {}

    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(
                ResidualPatches, patch=patch, middle=middle, channels=channels, image=image, first=1,
                positions=spec(LearnedGrid, grid=(sides[0],) * 2),
            ),
            backbone=pyramid(
                widths, [len(each) for each in heads], block, enter=spec(ResidualMerging, norm=norm),
                drop_path=drop_path, norm=norm, more=more,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Normal),
        )
    )  # fmt: skip
