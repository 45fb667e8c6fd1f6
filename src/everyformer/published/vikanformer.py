"""Kolmogorov-Arnold networks in a vision transformer (S and M, ViKANformer, 2025)."""

from __future__ import annotations

from everyformer.contracts import FeedForward
from everyformer.designs import Design
from everyformer.errors import UnknownName
from everyformer.feedforward import FourierKAN, RadialKAN, SineKAN, SplineKAN
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec

KINDS: dict[str, type[FeedForward]] = {
    "spline": SplineKAN, "radial": RadialKAN, "sine": SineKAN, "fourier": FourierKAN,
}  # fmt: skip
"""The functions that edges carry."""


@system(
    "vikanformer",
    title="ViKANformer: Embedding Kolmogorov Arnold Networks in Vision Transformers for Pattern-Based Learning",
    authors="Shreyas S and Akshath M",
    year=2025,
    arxiv="2503.01124",
    idea="In the MLPs of a ViT every edge carries a learned function of one variable.",
    tasks=("image-classification",),
)
@upon(vit, classes=10, image=28, patch=7, channels=1, width=64, depth=4, heads=4)
def vikanformer(design: Design, *, ratio: float = 1.0, kind: str = "radial") -> Design:
    """Section 3, sizes for MNIST; `kind` is 'spline' (KAN), 'radial' (FastKAN), 'sine' (SineKAN) or 'fourier'."""
    if kind not in KINDS:
        raise UnknownName("kind of edge", kind, KINDS)
    return design.swap("backbone.blocks.*.feedforward", spec(KINDS[kind], ratio=ratio))
