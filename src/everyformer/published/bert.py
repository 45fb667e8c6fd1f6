"""BERT (Devlin et al., 2019)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, TiedHead, Transform
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PostNorm
from everyformer.positions import Learned
from everyformer.registry import system
from everyformer.specs import Spec, spec

_ROBERTA = {"vocabulary": 50265, "segments": 1, "eps": 1e-5}


@system(
    "bert",
    title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    authors="Devlin et al.",
    year=2019,
    arxiv="1810.04805",
    idea="An encoder learns language by guessing masked words from both sides, then any task from a little more training.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={
        "tiny": {"width": 128, "depth": 2, "heads": 2},
        "mini": {"width": 256, "depth": 4, "heads": 4},
        "small": {"width": 512, "depth": 4, "heads": 8},
        "medium": {"width": 512, "depth": 8, "heads": 8},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
        "roberta-base": {"width": 768, "depth": 12, "heads": 12, **_ROBERTA},
        "roberta-large": {"width": 1024, "depth": 24, "heads": 16, **_ROBERTA},
        "distilbert-base": {"width": 768, "depth": 6, "heads": 12, "segments": 0},
        "electra-small": {"width": 256, "table_width": 128, "hidden": 1024, "depth": 12, "heads": 4},
        "electra-base": {"width": 768, "depth": 12, "heads": 12},
    },
)
def bert(
    *,
    vocabulary: int = 30522,
    classes: int | None = None,
    length: int = 512,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    heads: int = 12,
    table_width: int | None = None,
    segments: int = 2,
    activation: str = "gelu",
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    head_dropout: float | None = None,
    eps: float = 1e-12,
) -> Design:
    """Section 3: it classifies where `classes` is given, else it guesses masked tokens.

    The sizes below 'base' are those of Turc et al. (2019, 1908.08962). RoBERTa (1907.11692) is BERT trained longer, on
    more text, without segments; DistilBERT (1910.01108) has every second layer, taught by the whole; ELECTRA (2003.10555),
    whose small one has a narrower table (section 3.2), learns to find words that another model replaced.
    """
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=attention_dropout),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        residual=spec(PostNorm, norm=norm, dropout=dropout),
    )
    head: Spec[Any]
    if classes is None:
        transform = spec(Transform, norm=norm, activation=activation, output=table_width)
        head = spec(TiedHead, vocabulary=vocabulary, bias=True, transform=transform, table_width=table_width)
    else:
        rate = dropout if head_dropout is None else head_dropout
        head = spec(ClassHead, classes=classes, hidden=True, dropout=rate)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Text,
                vocabulary=vocabulary,
                positions=spec(Learned, length=length),
                segments=segments,
                table_width=table_width,
                norm=norm,
                dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(block,) * depth),
            head=head,
            start=spec(Normal, std=0.02),
        )
    )
