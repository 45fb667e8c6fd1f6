"""PiT (Heo et al., Rethinking Spatial Dimensions of Vision Transformers, 2021)."""

from __future__ import annotations

from everyformer.backbones import DepthwiseMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "pit",
    title="Rethinking Spatial Dimensions of Vision Transformers",
    authors="Heo et al.",
    year=2021,
    arxiv="2103.16302",
    idea="A ViT in three stages; between them a strided convolution of each channel halves the grid and doubles the width.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"width": 64, "depths": (2, 6, 4), "heads": (2, 4, 8)},
        "xs": {"width": 96, "depths": (2, 6, 4), "heads": (2, 4, 8)},
        "small": {"width": 144, "depths": (2, 6, 4), "heads": (3, 6, 12)},
        "base": {"width": 256, "depths": (3, 6, 4), "heads": (4, 8, 16), "patch": 14, "stride": 7},
    },
)
def pit(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    stride: int = 8,
    channels: int = 3,
    width: int = 144,
    depths: tuple[int, ...] = (2, 6, 4),
    heads: tuple[int, ...] = (3, 6, 12),
    ratio: float = 4.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3.2 and table 1: a class token from the first stage on, positions in front; `image` is their size."""
    same_length(depths=depths, heads=heads)
    norm = spec(LayerNorm, eps=eps)
    side = (image - patch) // stride + 1

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = spec(Attention, heads=heads[stage], dropout=attention_dropout)
        return pre_norm(mixer, spec(MLP, ratio=ratio, dropout=dropout), norm, rate, dropout=dropout)

    widths = [width * 2**i for i in range(len(depths))]
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                OverlapPatches, kernel=patch, stride=stride, padding=0, channels=channels, image=image, first=1,
                positions=spec(LearnedGrid, grid=(side, side), mode="bilinear"), dropout=dropout,
            ),
            backbone=pyramid(widths, depths, block, enter=spec(DepthwiseMerging), drop_path=drop_path, norm=norm),
            head=spec(ClassHead, classes=classes),
            start=spec(Normal),
        )
    )  # fmt: skip
