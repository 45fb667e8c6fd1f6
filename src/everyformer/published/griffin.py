"""RecurrentGemma (Botev et al., 2024): Griffin (De et al., 2024) as Gemma has its layers."""

from __future__ import annotations

import torch

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.errors import UnknownName
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead
from everyformer.masks import Window
from everyformer.mixers import Attention, RealGatedRecurrence
from everyformer.models import Model, Normal
from everyformer.norms import PreNorm, RMSNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "recurrentgemma",
    title="RecurrentGemma: Moving Past Transformers for Efficient Open Language Models",
    authors="Botev et al.",
    year=2024,
    arxiv="2404.07839",
    idea="Two layers of a gated recurrence for each layer of attention to a window: what generation remembers has a fixed size.",
    tasks=("language-modelling",),
    default="2b",
    sizes={
        "nano": {"width": 128, "hidden": 384, "depth": 4, "heads": 4, "key_heads": 1, "window": 64},
        "2b": {},
        "9b": {"width": 4096, "hidden": 12288, "depth": 38, "heads": 16},
    },
)
def recurrentgemma(
    *,
    vocabulary: int = 256000,
    width: int = 2560,
    hidden: int = 7680,
    inner: int | None = None,
    depth: int = 26,
    heads: int = 10,
    key_heads: int = 1,
    pattern: tuple[str, ...] = ("recurrent", "recurrent", "attention"),
    window: int = 2048,
    kernel: int = 4,
    base: float = 10000.0,
    fraction: float = 0.5,
    bias: bool = False,
    cap: float | None = 30.0,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 2, and Griffin's section 2 for the layers: `pattern` is repeated over the depth, a recurrence is `inner` wide.

    The table is multiplied by sqrt(`width`) as bfloat16 has it, in the released code whatever the precision.
    """
    norm = spec(RMSNorm, eps=eps, offset=1.0)
    mixers = {
        "recurrent": spec(RealGatedRecurrence, hidden=inner or width, heads=heads, kernel=kernel),
        "attention": spec(
            Attention,
            heads=heads,
            key_heads=key_heads,
            bias=bias,
            output_bias=True,
            positions=spec(Rotary, base=base, fraction=fraction),
            mask=Window(window - 1),
        ),
    }
    for each in pattern:
        if each not in mixers:
            raise UnknownName("layer of the pattern", each, mixers)
    feedforward = spec(Gated, hidden=hidden, activation="gelu_tanh", bias=True)
    residual = spec(PreNorm, norm=norm, dropout=dropout)
    kinds = (pattern[i % len(pattern)] for i in range(depth))
    blocks = tuple(spec(Block, mixer=mixers[each], feedforward=feedforward, residual=residual) for each in kinds)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Text, vocabulary=vocabulary, scaled=torch.tensor(width**0.5, dtype=torch.bfloat16, device="cpu").item()
            ),
            backbone=spec(Decoder, blocks=blocks, norm=norm),
            head=spec(TiedHead, vocabulary=vocabulary, cap=cap),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
