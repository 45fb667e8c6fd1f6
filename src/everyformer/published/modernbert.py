"""ModernBERT (Warner et al., 2024)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Encoder
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import Gated
from everyformer.heads import ClassHead, Mean, TiedHead, Transform
from everyformer.masks import Full, Window
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import Identity, LayerNorm, PreNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "modernbert",
    title="Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder",
    authors="Warner et al.",
    year=2024,
    arxiv="2412.13663",
    idea="BERT rebuilt: rotary positions, GeGLU, no biases, and only every third layer sees the whole text.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 192, "depth": 3, "heads": 2},
        "base": {"width": 768, "hidden": 1152, "depth": 22, "heads": 12},
        "large": {"width": 1024, "hidden": 2624, "depth": 28, "heads": 16},
    },
)
def modernbert(
    *,
    vocabulary: int = 50368,
    classes: int | None = None,
    width: int = 768,
    hidden: int = 1152,
    depth: int = 22,
    heads: int = 12,
    every: int = 3,
    window: int = 128,
    base: float = 160000.0,
    local_base: float = 10000.0,
    activation: str = "gelu",
    bias: bool = False,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    head_dropout: float = 0.0,
    eps: float = 1e-5,
) -> Design:
    """Section 2.1 and appendix A: it classifies where `classes` is given, else it guesses masked tokens.

    Layer 0 and each `every`-th after it see all, with rotary positions of `base`; the others see `window` tokens around
    each, with positions of `local_base`. The first layer has no norm in front of its attention: the embedding has it.
    """
    norm = spec(LayerNorm, eps=eps, bias=bias)

    def block(index: int) -> Spec[Backbone]:
        wide = index % every == 0
        mixer = spec(
            Attention,
            heads=heads,
            bias=bias,
            positions=spec(Rotary, base=base if wide else local_base),
            mask=Full() if wide else Window(window // 2, window // 2),
            dropout=attention_dropout,
        )
        before = spec(PreNorm, norm=norm if index else spec(Identity))
        feedforward = spec(Gated, hidden=hidden, activation=activation, bias=bias, dropout=dropout)
        return spec(Block, mixer=mixer, feedforward=feedforward, residual=(before, spec(PreNorm, norm=norm)))

    transform = spec(Transform, norm=norm, activation=activation, bias=bias)
    head: Spec[Any] = spec(TiedHead, vocabulary=vocabulary, bias=True, transform=transform)
    if classes is not None:
        head = spec(ClassHead, classes=classes, pool=spec(Mean), transform=transform, dropout=head_dropout)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, norm=norm),
            backbone=spec(Encoder, blocks=tuple(block(i) for i in range(depth)), norm=norm),
            head=head,
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
