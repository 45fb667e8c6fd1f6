"""Class attention in image transformers (Touvron et al., CaiT, 2021)."""

from __future__ import annotations

from everyformer.backbones import Apart, ClassBlock, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import branches, plain
from everyformer.registry import system
from everyformer.scores import MixScores, MixWeights
from everyformer.specs import spec


@system(
    "cait",
    title="Going deeper with Image Transformers",
    authors="Touvron et al.",
    year=2021,
    arxiv="2103.17239",
    idea="Scale every update by a small learned factor per channel, and let the class token in only for the last layers.",
    tasks=("image-classification",),
    default="s24",
    sizes={
        "xxs24": {"width": 192, "depth": 24, "heads": 4},
        "xxs36": {"width": 192, "depth": 36, "heads": 4},
        "xs24": {"width": 288, "depth": 24, "heads": 6, "image": 384},
        "s24": {"width": 384, "depth": 24, "heads": 8},
        "s36": {"width": 384, "depth": 36, "heads": 8, "image": 384, "scale": 1e-6},
        "m36": {"width": 768, "depth": 36, "heads": 16, "image": 384, "scale": 1e-6},
    },
)
def cait(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 384,
    depth: int = 24,
    heads: int = 8,
    ratio: float = 4.0,
    class_depth: int = 2,
    scale: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Sections 2 and 3: LayerScale, talking heads among the patches, then class attention."""
    norm, mlp = spec(LayerNorm, eps=eps), spec(MLP, ratio=ratio)
    talking = spec(Attention, heads=heads, steps=(spec(MixScores, bias=True), spec(MixWeights, bias=True)))
    patches = plain(
        depth, mixer=talking, feedforward=mlp, norm=norm, last=None, scale=scale, drop_path=drop_path, dropout=dropout
    )
    asking = spec(
        ClassBlock,
        mixer=spec(CrossAttention, heads=heads, memory="tokens"),
        feedforward=mlp,
        residual=spec(PreNorm, norm=norm, branches=branches(scale, 0.0)),
    )
    side = image // patch
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, first=1, dropout=dropout,
                positions=spec(LearnedGrid, grid=(side, side)),
            ),
            backbone=spec(Encoder, blocks=(spec(Apart, body=patches), *[asking] * class_depth), norm=norm),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip
