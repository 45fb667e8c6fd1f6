"""2-D SSM (Baron et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.mixers import After, PlaneStateSpace
from everyformer.published.bodies import attention
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "2d-ssm",
    title="2-D SSM: A General Spatial Layer for Visual Transformers",
    authors="Baron et al.",
    year=2023,
    arxiv="2306.06635",
    idea="Before attention each channel passes a convolution whose kernel a small state space of two axes gives.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "small": {"width": 192, "depth": 9, "heads": 12, "ratio": 2.0},
        "base": {"width": 768, "depth": 12, "heads": 12, "image": 224, "patch": 16},
    },
)
def plane_ssm(
    *,
    classes: int = 100,
    image: int = 32,
    patch: int = 4,
    channels: int = 3,
    width: int = 192,
    depth: int = 9,
    heads: int = 12,
    ratio: float = 4.0,
    state: int = 16,
    systems: int = 2,
    corners: int = 2,
    dropout: float = 0.0,
    drop_path: float = 0.1,
) -> Design:
    """Section 4.1: a ViT without positions, the layer in front of the attention of every block."""
    made = vit(
        classes=classes, image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads, ratio=ratio,
        dropout=dropout, drop_path=drop_path,
    )  # fmt: skip
    first = spec(PlaneStateSpace, state=state, systems=systems, corners=corners)
    mixer = spec(After, first=first, mixer=attention(heads))
    return made.set("embedding.positions", None).swap("backbone.blocks.*.mixer", mixer)
