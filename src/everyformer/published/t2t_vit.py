"""Tokens-to-Token ViT (Yuan et al., 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import TokensToToken
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import RasterSinusoidal
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "t2t-vit",
    title="Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet",
    authors="Yuan et al.",
    year=2021,
    arxiv="2101.11986",
    idea="Make tokens by taking overlapping windows together and attending, again and again; then a deep and narrow ViT.",
    tasks=("image-classification",),
    default="14",
    sizes={
        "14": {"width": 384, "depth": 14, "heads": 6},
        "19": {"width": 448, "depth": 19, "heads": 7},
        "24": {"width": 512, "depth": 24, "heads": 8},
    },
)
def t2t_vit(
    *,
    classes: int = 1000,
    image: int = 224,
    splits: tuple[tuple[int, int, int], ...] = ((7, 4, 2), (3, 2, 1), (3, 2, 1)),
    narrow: int = 64,
    channels: int = 3,
    width: int = 384,
    depth: int = 14,
    heads: int = 6,
    ratio: float = 3.0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Design:
    """Section 3, the transformers between the splits (T2T-ViT_t): fixed positions, of which the class token has the first."""
    norm = spec(LayerNorm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                TokensToToken, splits=splits, narrow=narrow, channels=channels, image=image, first=1,
                positions=spec(RasterSinusoidal, start=1), dropout=dropout,
            ),
            backbone=plain(
                depth, mixer=spec(Attention, heads=heads, bias=False, output_bias=True),
                feedforward=spec(MLP, ratio=ratio), norm=norm, last=norm, drop_path=drop_path, dropout=dropout,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
