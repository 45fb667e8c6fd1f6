"""2-D SSM (Baron et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.mixers import After, PlaneStateSpace
from everyformer.published.upon import upon
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
@upon(vit, classes=100, image=32, patch=4, width=192, depth=9, drop_path=0.1)
def plane_ssm(design: Design, *, state: int = 16, systems: int = 2, corners: int = 2) -> Design:
    """Section 4.1: a ViT without positions, the layer in front of the attention of every block."""
    first = spec(PlaneStateSpace, state=state, systems=systems, corners=corners)
    made = design.set("embedding.positions", None)
    return made.swap("backbone.blocks.*.mixer", lambda mixer: spec(After, first=first, mixer=mixer))
