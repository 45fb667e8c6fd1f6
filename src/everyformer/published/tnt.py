"""Transformer in Transformer (Han et al., 2021)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Encoder, Sentences, WordBlock
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import PatchesOfWords, PatchWords
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention, branches, rising
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "tnt",
    title="Transformer in Transformer",
    authors="Han et al.",
    year=2021,
    arxiv="2103.00112",
    idea="Each patch is a sentence of smaller patches, its words, which have a transformer of their own in every layer.",
    tasks=("image-classification",),
    default="s",
    sizes={
        "ti": {"width": 192, "word_width": 12, "heads": 3, "word_heads": 2},
        "s": {"width": 384, "word_width": 24, "heads": 6},
        "b": {"width": 640, "word_width": 40, "heads": 10},
    },
)
def tnt(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    stride: int = 4,
    channels: int = 3,
    width: int = 384,
    word_width: int = 24,
    depth: int = 12,
    heads: int = 6,
    word_heads: int = 4,
    ratio: float = 4.0,
    across: bool = True,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-5,
) -> Design:
    """Section 2.2 and table 1. As in the authors' first code, words see `across` patches; their revised code cuts first, and
    has its norms around the whole of the words.
    """
    norm, side = spec(LayerNorm, eps=eps), image // patch
    words = (patch // stride) ** 2
    how: dict[str, Any] = {"each": norm} if across else {"norm": norm, "after": norm, "bias": False}

    def block(heads: int, ratio: float, rate: float) -> Spec[Backbone]:
        residual = spec(PreNorm, norm=norm, dropout=dropout, branches=branches(None, rate))
        return spec(Block, mixer=attention(heads, False), feedforward=spec(MLP, ratio=ratio), residual=residual)

    blocks = [
        spec(
            WordBlock, words=words, word_width=word_width, inner=block(word_heads, 4.0, rate),
            outer=block(heads, ratio, rate), **how,
        )
        for rate in rising(drop_path, depth)
    ]  # fmt: skip
    return Design(
        spec(
            Model,
            width=width + words * word_width,
            embedding=spec(
                PatchWords if across else PatchesOfWords, patch=patch, stride=stride, word_width=word_width,
                channels=channels, image=image, first=1, positions=spec(LearnedGrid, grid=(side, side)),
                word_norm=norm, sentence_norm=norm, dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(*blocks, spec(Sentences, inside=width)), norm=norm),
            head=spec(ClassHead, classes=classes),
            start=spec(Normal),
        )
    )  # fmt: skip
