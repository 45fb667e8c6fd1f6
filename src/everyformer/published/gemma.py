"""Gemma 2 and 3 (Gemma Team, 2024, 2025)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead
from everyformer.masks import Full, Window
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import RMSNorm, SandwichNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.scores import SoftCap
from everyformer.specs import Spec, spec

_3 = {
    "vocabulary": 262144, "every": 6, "base": 1000000.0, "query_key_norm": True, "cap": None, "logit_cap": None,
    "window": 1024,
}  # fmt: skip


@system(
    "gemma",
    title="Gemma 2: Improving Open Language Models at a Practical Size",
    authors="Gemma Team",
    year=2024,
    arxiv="2408.00118",
    idea="A decoder in which layers that see all alternate with layers that see a window, and scores and logits are capped.",
    tasks=("language-modelling",),
    default="2-2b",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4, "key_heads": 2, "head_width": 32, "window": 64},
        "2-2b": {},
        "2-9b": {"width": 3584, "hidden": 14336, "depth": 42, "heads": 16, "key_heads": 8},
        "2-27b": {
            "width": 4608, "hidden": 36864, "depth": 46, "heads": 32, "key_heads": 16, "head_width": 128, "scaled_by": 144,
        },
        "3-270m": {**_3, "width": 640, "hidden": 2048, "depth": 18, "heads": 4, "key_heads": 1, "window": 512},
        "3-1b": {**_3, "width": 1152, "hidden": 6912, "depth": 26, "heads": 4, "key_heads": 1, "window": 512},
        "3-4b": {**_3, "width": 2560, "hidden": 10240, "depth": 34, "heads": 8, "key_heads": 4, "linear": 8.0},
    },
)  # fmt: skip
def gemma(
    *,
    vocabulary: int = 256000,
    width: int = 2304,
    hidden: int = 9216,
    depth: int = 26,
    heads: int = 8,
    key_heads: int = 4,
    head_width: int = 256,
    scaled_by: int | None = None,
    every: int = 2,
    window: int = 4096,
    base: float = 10000.0,
    local_base: float = 10000.0,
    linear: float = 1.0,
    query_key_norm: bool = False,
    cap: float | None = 50.0,
    logit_cap: float | None = 30.0,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 2: scores are divided by sqrt(`scaled_by`), the width of a head unless said; every `every`-th layer sees all.

    Gemma 3 (2503.19786, section 2) has one such layer in six, with a `base` and `linear` stretching of its own, and
    `query_key_norm` in place of the cap on scores.
    """
    norm = spec(RMSNorm, eps=eps, offset=1.0)

    def block(index: int) -> Spec[Backbone]:
        wide = (index + 1) % every == 0
        mixer = spec(
            Attention,
            heads=heads,
            key_heads=key_heads,
            head_width=head_width,
            bias=False,
            positions=spec(Rotary, base=base, linear=linear) if wide else spec(Rotary, base=local_base),
            query_key_norm=norm if query_key_norm else None,
            mask=Full() if wide else Window(window - 1),
            scale=(scaled_by or head_width) ** -0.5,
            steps=() if cap is None else (spec(SoftCap, cap=cap),),
            dropout=dropout,
        )
        feedforward = spec(Gated, hidden=hidden, activation="gelu_tanh")
        return spec(
            Block, mixer=mixer, feedforward=feedforward, residual=spec(SandwichNorm, norm=norm, dropout=dropout)
        )

    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, scaled=True),
            backbone=spec(Decoder, blocks=tuple(block(i) for i in range(depth)), norm=norm),
            head=spec(TiedHead, vocabulary=vocabulary, cap=logit_cap),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
