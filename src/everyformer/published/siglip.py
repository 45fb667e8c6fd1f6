"""SigLIP (Zhai et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everyformer.designs import Design
from everyformer.embeddings import Patches, Text
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, LastToken, PoolHead, ProbePool
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import BiasedTowers, Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import Learned, LearnedGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "siglip",
    title="Sigmoid Loss for Language Image Pre-Training",
    authors="Zhai et al.",
    year=2023,
    arxiv="2303.15343",
    idea="A ViT without class token, pooled by a learned query, trained to match pictures and texts pair by pair.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16, "image": 256},
        "so400m": {"width": 1152, "depth": 27, "heads": 16, "hidden": 4304, "patch": 14},
    },
)
def siglip(
    *,
    classes: int | None = None,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    hidden: int | None = None,
    eps: float = 1e-6,
) -> Design:
    """Section 3 and the official code: the vision tower alone, its answer the picture's vector, or logits of `classes`.

    `hidden` is the hidden width of the MLPs where that is not `ratio` times the width.
    """
    norm = spec(LayerNorm, eps=eps)
    mlp = spec(MLP, hidden=hidden or int(width * ratio), activation="gelu_tanh")
    probe = spec(
        ProbePool, mixer=spec(CrossAttention, heads=heads, memory="pool"), feedforward=mlp, norm=norm
    )  # fmt: skip
    side = image // patch
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, positions=spec(LearnedGrid, grid=(side, side))
            ),
            backbone=plain(depth, mixer=spec(Attention, heads=heads), feedforward=mlp, norm=norm, last=norm),
            head=spec(PoolHead, pool=probe) if classes is None else spec(ClassHead, classes=classes, pool=probe),
            start=spec(Xavier),
        )
    )


def text_tower(
    *,
    vocabulary: int = 32000,
    length: int = 64,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    output: int | None = None,
    activation: str = "gelu_tanh",
    eps: float = 1e-6,
) -> Design:
    """Tokens that all see each other, and a map of the last one; texts are filled up to one length (section 3.1)."""
    norm = spec(LayerNorm, eps=eps)
    mlp = spec(MLP, hidden=hidden or 4 * width, activation=activation)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length)),
            backbone=plain(depth, mixer=spec(Attention, heads=heads), feedforward=mlp, norm=norm, last=norm),
            head=spec(PoolHead, pool=spec(LastToken), output=output or width, bias=True),
            start=spec(Xavier),
        )
    )


def towers(*, picture: Mapping[str, Any], text: Mapping[str, Any]) -> Design:
    """Both towers, each of options of its own, compared as section 3.2 says."""
    return Design(
        spec(BiasedTowers, picture=siglip(**picture).spec, text=text_tower(**text).spec, start=spec(Xavier))
    )  # fmt: skip
