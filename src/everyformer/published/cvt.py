"""CvT (Wu et al., Introducing Convolutions to Vision Transformers, 2021)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import ConvMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import ConvAttention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "cvt",
    title="CvT: Introducing Convolutions to Vision Transformers",
    authors="Wu et al.",
    year=2021,
    arxiv="2103.15808",
    idea="A pyramid whose patches, queries, keys and values are all convolutions, so that it needs no positions.",
    tasks=("image-classification",),
    default="13",
    sizes={
        "13": {"widths": (64, 192, 384), "depths": (1, 2, 10), "heads": (1, 3, 6)},
        "21": {"widths": (64, 192, 384), "depths": (1, 4, 16), "heads": (1, 3, 6)},
        "w24": {"widths": (192, 768, 1024), "depths": (2, 2, 20), "heads": (3, 12, 16), "image": 384},
    },
)
def cvt(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = (64, 192, 384),
    depths: tuple[int, ...] = (1, 2, 10),
    heads: tuple[int, ...] = (1, 3, 6),
    kernel: int = 3,
    ratio: float = 4.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
) -> Design:
    """Section 3 and table 2: a class token in the last stage."""
    same_length(widths=widths, depths=depths, heads=heads)
    norm = spec(LayerNorm)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = spec(ConvAttention, heads=heads[stage], kernel=kernel, dropout=attention_dropout)
        return pre_norm(mixer, spec(MLP, ratio=ratio, dropout=dropout), norm, rate, dropout=dropout)

    def more(stage: int) -> dict[str, Any]:
        return {"first": 1} if stage == len(depths) - 1 else {}

    enter = spec(ConvMerging, kernel=3, stride=2, padding=1, norm=norm)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(OverlapPatches, padding=2, channels=channels, image=image, norm=norm),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path, norm=norm, more=more),
            head=spec(ClassHead, classes=classes),
            start=spec(Normal),
        )
    )
