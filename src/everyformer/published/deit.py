"""Data-efficient image Transformers (Touvron et al., DeiT, 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import DistilledHead
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention, plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "deit",
    title="Training data-efficient image transformers & distillation through attention",
    authors="Touvron et al.",
    year=2021,
    arxiv="2012.12877",
    idea="A second class token learns what a teacher says while the first learns the labels.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "tiny": {"width": 192, "heads": 3},
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
    },
)
def deit(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 4: ViT with a distillation token, each token with a classifier; without the token a DeiT is a `vit`.

    Train it with `objective.teacher=RUN` (equation 2), and `objective.told=decision` (equation 3).
    """
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, first=2,
                positions=spec(LearnedGrid, grid=(side, side)), dropout=dropout,
            ),
            backbone=plain(
                depth, mixer=attention(heads, qkv_bias),
                feedforward=spec(MLP, hidden=int(width * ratio)), norm=norm, last=norm, drop_path=drop_path,
                dropout=dropout,
            ),
            head=spec(DistilledHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
