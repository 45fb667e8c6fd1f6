"""Inceptive Transformers (Shahriar et al., 2025)."""

from __future__ import annotations

from everyformer.backbones import Block
from everyformer.designs import Design
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention, Inception
from everyformer.norms import LayerNorm, PostNorm
from everyformer.published.bert import bert
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "inceptive-transformer",
    title=(
        "Inceptive Transformers: Enhancing Contextual Representations through Multi-Scale Feature Learning Across Domains "
        "and Languages"
    ),
    authors="Shahriar et al.",
    year=2025,
    arxiv="2505.20496",
    idea="On top of a text encoder convolutions of several widths enrich the words, and a last attention weighs them.",
    tasks=("text-classification",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 512, "depth": 2, "heads": 2},
        "base": {"width": 768, "hidden": 3072, "depth": 12, "heads": 12},
    },
)
def inceptive_transformer(
    *,
    vocabulary: int = 30522,
    classes: int = 2,
    length: int = 512,
    width: int = 768,
    hidden: int = 3072,
    depth: int = 12,
    heads: int = 12,
    kernels: tuple[int, ...] = (1, 3, 5, 7),
    dropout: float = 0.1,
    eps: float = 1e-12,
) -> Design:
    """BERT with two layers more, and the mean of the words in the place of the class token.

    The abstract has the convolutions and the attention; `kernels`, the residuals around both, and the mean are chosen here.
    """
    body = bert(
        vocabulary=vocabulary, classes=classes, length=length, width=width, hidden=hidden, depth=depth, heads=heads,
        dropout=dropout, eps=eps,
    )  # fmt: skip
    residual = spec(PostNorm, norm=spec(LayerNorm, eps=eps), dropout=dropout)
    mixers = spec(Inception, kernels=kernels), spec(Attention, heads=heads)
    more = tuple(spec(Block, mixer=mixer, feedforward=None, residual=residual) for mixer in mixers)
    head = spec(ClassHead, classes=classes, pool=spec(Mean), dropout=dropout)
    return body.set("backbone.blocks", (*body.get("backbone.blocks"), *more)).set("head", head)
