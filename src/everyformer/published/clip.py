"""CLIP (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Patches, Text
from everyformer.feedforward import MLP
from everyformer.heads import LastToken, PoolHead
from everyformer.mixers import Attention
from everyformer.models import ByWidth, Model, TwoTowers
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Learned, LearnedGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec

_LARGE = {"width": 1024, "depth": 24, "heads": 16, "patch": 14, "text_width": 768, "text_heads": 12, "output": 768}


@system(
    "clip",
    title="Learning Transferable Visual Models From Natural Language Supervision",
    authors="Radford et al.",
    year=2021,
    arxiv="2103.00020",
    idea="Train a picture encoder and a text encoder to tell which text belongs to which picture; then any text is a class.",
    tasks=("image-text-matching",),
    default="base-32",
    sizes={
        "base-32": {"patch": 32},
        "base-16": {},
        "large-14": _LARGE,
        "large-14-336": {**_LARGE, "image": 336},
    },
)
def clip(
    *,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    heads: int = 12,
    vocabulary: int = 49408,
    length: int = 77,
    text_width: int = 512,
    text_hidden: int | None = None,
    text_depth: int = 12,
    text_heads: int = 8,
    output: int = 512,
    activation: str = "quick_gelu",
    text_activation: str | None = None,
    eps: float = 1e-5,
    text_eps: float | None = None,
) -> Design:
    """Sections 2.3 and 2.4: a ViT with a norm before its blocks, and a causal decoder read at its last token.

    `output` is the width of the vectors that are compared; `hidden` and `text_hidden` are those of the MLPs, four times
    the width unless said.
    """
    picture = {
        "image": image, "patch": patch, "channels": channels, "width": width, "hidden": hidden, "depth": depth,
        "heads": heads, "output": output, "activation": activation, "eps": eps,
    }  # fmt: skip
    text = {
        "vocabulary": vocabulary, "length": length, "width": text_width, "hidden": text_hidden, "depth": text_depth,
        "heads": text_heads, "output": output, "activation": text_activation or activation, "eps": text_eps or eps,
    }  # fmt: skip
    return towers(picture=picture, text=text)


def towers(*, picture: Mapping[str, Any], text: Mapping[str, Any]) -> Design:
    """Both towers, each of options of its own."""
    return Design(spec(TwoTowers, picture=picture_tower(**picture).spec, text=text_tower(**text).spec))


def picture_tower(
    *,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    heads: int = 12,
    output: int | None = None,
    activation: str = "quick_gelu",
    eps: float = 1e-5,
) -> Design:
    """The ViT; its answer is the class token, or what a map to `output` makes of it.

    The norm before the blocks leaves of a patch of few pixels hardly more than its sign: take patches of 16 or more.
    """
    norm, side = spec(LayerNorm, eps=eps), image // patch
    embedding = spec(
        Patches,
        patch=patch,
        channels=channels,
        image=image,
        first=1,
        positions=spec(LearnedGrid, grid=(side, side), std=width**-0.5),
        norm=norm,
        bias=False,
    )
    body = plain(
        depth,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        norm=norm,
        last=None,
    )
    head = spec(PoolHead, norm=norm, output=output)
    return Design(spec(Model, width=width, embedding=embedding, backbone=body, head=head))


def text_tower(
    *,
    vocabulary: int = 49408,
    length: int = 77,
    width: int = 512,
    hidden: int | None = None,
    depth: int = 12,
    heads: int = 8,
    output: int | None = None,
    activation: str = "quick_gelu",
    eps: float = 1e-5,
) -> Design:
    """The decoder; its answer is the last token of a text, or what a map to `output` makes of it."""
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        residual=spec(PreNorm, norm=norm),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length)),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm),
            head=spec(PoolHead, pool=spec(LastToken), output=output),
            start=spec(ByWidth),
        )
    )
