"""CLIP (Radford et al., 2021)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Patches, Text
from everyformer.feedforward import MLP
from everyformer.heads import LastToken, PoolHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal, TwoTowers
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
    norm, text_norm = spec(LayerNorm, eps=eps), spec(LayerNorm, eps=text_eps or eps)
    side = image // patch
    picture = spec(
        Model,
        width=width,
        embedding=spec(
            Patches,
            patch=patch,
            channels=channels,
            image=image,
            first=1,
            positions=spec(LearnedGrid, grid=(side, side)),
            norm=norm,
            bias=False,
        ),
        backbone=plain(
            depth,
            mixer=spec(Attention, heads=heads),
            feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
            norm=norm,
            last=None,
        ),
        head=spec(PoolHead, norm=norm, output=output),
    )
    block = spec(
        Block,
        mixer=spec(Attention, heads=text_heads),
        feedforward=spec(MLP, hidden=text_hidden or 4 * text_width, activation=text_activation or activation),
        residual=spec(PreNorm, norm=text_norm),
    )
    text = spec(
        Model,
        width=text_width,
        embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length)),
        backbone=spec(Decoder, blocks=(block,) * text_depth, norm=text_norm),
        head=spec(PoolHead, pool=spec(LastToken), output=output),
    )
    return Design(spec(TwoTowers, picture=picture, text=text, start=spec(Normal)))
