"""Kolmogorov-Arnold networks in a vision transformer (S and M, ViKANformer, 2025)."""

from __future__ import annotations

from everyformer.contracts import FeedForward
from everyformer.designs import Design
from everyformer.errors import UnknownName
from everyformer.feedforward import FourierKAN, RadialKAN, SineKAN, SplineKAN
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
def vikanformer(
    *,
    classes: int = 10,
    image: int = 28,
    patch: int = 7,
    channels: int = 1,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    ratio: float = 1.0,
    kind: str = "radial",
    dropout: float = 0.0,
) -> Design:
    """Section 3, sizes for MNIST; `kind` is 'spline' (KAN), 'radial' (FastKAN), 'sine' (SineKAN) or 'fourier'."""
    if kind not in KINDS:
        raise UnknownName("kind of edge", kind, KINDS)
    made = vit(
        classes=classes, image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads,
        dropout=dropout,
    )  # fmt: skip
    return made.swap("backbone.blocks.*.feedforward", spec(KINDS[kind], ratio=ratio))
