"""Unified normalisation (Yang et al., 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.norms import UnifiedNorm
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "unified-normalization",
    title="Unified Normalization for Accelerating and Stabilizing Transformers",
    authors="Yang et al.",
    year=2022,
    arxiv="2208.01313",
    idea="Normalise by smoothed statistics of the last batches: in use the norm is a constant and folds into the next map.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "tiny": {"width": 192, "depth": 12, "heads": 3},
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
    },
)
def unified_normalization(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    dropout: float = 0.0,
    window: int = 4,
    warmup: int = 4000,
    filtered: bool = True,
) -> Design:
    """Section 3, in ViT: every norm replaced, outlier batches filtered. `ef.backbones.fold(model)` folds them after training."""
    plain = vit(
        classes=classes, image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads, ratio=ratio,
        dropout=dropout,
    )  # fmt: skip
    return plain.swap("backbone.**.norm", spec(UnifiedNorm, window=window, warmup=warmup, filtered=filtered))
