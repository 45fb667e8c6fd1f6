"""Unified normalisation (Yang et al., 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.norms import UnifiedNorm
from everyformer.published.upon import upon
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
@upon(vit)
def unified_normalization(design: Design, *, window: int = 4, warmup: int = 4000, filtered: bool = True) -> Design:
    """Section 3, in ViT: every norm replaced, outlier batches filtered. `ef.backbones.fold(model)` folds them after training."""
    return design.swap("backbone.**.norm", spec(UnifiedNorm, window=window, warmup=warmup, filtered=filtered))
