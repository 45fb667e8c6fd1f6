"""EcoFormer (Liu et al., 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.mixers import HashFeatures, SharedLinearAttention
from everyformer.published.pvt import RATIOS, WIDE, pvt_v2
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "ecoformer",
    title="EcoFormer: Energy-Saving Attention with Linear Complexity",
    authors="Liu et al.",
    year=2022,
    arxiv="2209.09004",
    idea="Queries and keys as short binary codes of learned hash functions: linear attention made mostly of additions.",
    tasks=("image-classification",),
    default="b0",
    sizes={
        "b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
        "b1": {"depths": (2, 2, 2, 2)},
        "b2": {"depths": (3, 4, 6, 3)},
    },
)
def ecoformer(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = WIDE,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratios: tuple[float, ...] = RATIOS,
    bits: int = 16,
    anchors: int = 25,
    drop_path: float = 0.1,
) -> Design:
    """PVT v2 whose attention is to codes in all stages but the last, which attends in full (section 5.1, official code)."""
    made = pvt_v2(
        classes=classes, image=image, channels=channels, widths=widths, depths=depths, heads=heads, ratios=ratios,
        reductions=(1,) * len(depths), drop_path=drop_path,
    )  # fmt: skip
    features = spec(HashFeatures, bits=bits, anchors=anchors)
    for stage in range(len(depths) - 1):
        mixer = spec(SharedLinearAttention, heads=heads[stage], features=features)
        made = made.swap(f"backbone.stages.{stage}.blocks.*.mixer", mixer)
    return made
