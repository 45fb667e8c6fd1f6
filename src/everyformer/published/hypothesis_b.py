"""A hypothesis: patches whose size follows the picture."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import QuadPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import Sinusoidal
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "hypothesis-b",
    title="Hypothesis B: adaptive patch sizing for vision transformers",
    authors="a hypothesis, not a paper",
    year=2026,
    idea="Cut a picture into large patches where it is smooth and small ones where it has detail, as many as are paid for.",
    tasks=("image-classification",),
)
def hypothesis_b(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 32,
    smallest: int = 8,
    tokens: int = 196,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    ratio: float = 4.0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Design:
    """A ViT over a quadtree of patches, each at the sinusoids of its centre; `tokens` is what a picture may cost."""
    norm = spec(LayerNorm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                QuadPatches, patch=patch, smallest=smallest, tokens=tokens, channels=channels, image=image, first=1,
                positions=spec(Sinusoidal), dropout=dropout,
            ),
            backbone=plain(
                depth, mixer=spec(Attention, heads=heads), feedforward=spec(MLP, ratio=ratio), norm=norm, last=norm,
                drop_path=drop_path, dropout=dropout,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
