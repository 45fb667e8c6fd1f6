"""Position prediction as pretraining (Zhai et al., MP3, 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import SeenPatches
from everyformer.feedforward import MLP
from everyformer.heads import CellHead, ClassHead, Mean
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "mp3",
    title="Position Prediction as an Effective Pretraining Strategy",
    authors="Zhai et al.",
    year=2022,
    arxiv="2207.07611",
    idea="Take the positions away, show the model some patches of a picture, and ask where each patch stood.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
    },
)
def mp3(
    *,
    classes: int | None = None,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: a ViT without positions that is pretrained with `objectives.Places`; with `classes`, what is fine-tuned.

    Fine-tuned, it has learned positions besides, and classifies the mean of the patches (section 4.1).
    """
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    places = None if classes is None else spec(LearnedGrid, grid=(side, side))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                SeenPatches, patch=patch, channels=channels, image=image, positions=places, dropout=dropout
            ),
            backbone=plain(
                depth, mixer=spec(Attention, heads=heads), feedforward=spec(MLP, ratio=ratio), norm=norm, last=norm,
                drop_path=drop_path, dropout=dropout,
            ),
            head=spec(CellHead, outputs=side * side)
            if classes is None
            else spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Xavier),
        )
    )  # fmt: skip
