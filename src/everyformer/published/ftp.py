"""Future Token Prediction (Walker, 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.feedforward import MLP
from everyformer.heads import FutureHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.norms import LayerNorm
from everyformer.published.gpt import gpt
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "ftp",
    title="Future Token Prediction -- Causal Language Modelling with Per-Token Semantic State Vector for Multi-Token Prediction",
    authors="Walker",
    year=2024,
    arxiv="2410.18160",
    idea="Each vector at the top becomes a short sequence, from which alone a small decoder says the next several tokens.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {
            "width": 128, "depth": 4, "heads": 4, "length": 64, "decoder_depth": 1, "ahead": 4, "pseudo": 4, "narrow": 64,
            "std": 0.08,
        },
        "small": {"width": 768, "depth": 12, "heads": 12},
    },
)  # fmt: skip
def ftp(
    *,
    vocabulary: int = 50257,
    length: int = 1024,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    decoder_depth: int = 3,
    ahead: int = 8,
    pseudo: int = 8,
    narrow: int | None = None,
    std: float = 0.02,
    dropout: float = 0.0,
) -> Design:
    """GPT-2's body and a decoder of its blocks that attends to the projected vector; train it by `objectives.FutureTokens`.

    Weights start at `std`: GPT-2's suits its widths. A vector passes three maps more than to a table, which at 0.02 leave next to
    nothing of it where they are narrow ('nano', a size of this library).
    """
    inner = narrow or width
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        cross=(spec(CrossAttention, heads=heads),),
        feedforward=spec(MLP, hidden=4 * inner, activation="gelu_tanh"),
    )
    body = gpt(vocabulary=vocabulary, length=length, width=width, depth=depth, heads=heads, dropout=dropout)
    head = spec(
        FutureHead,
        vocabulary=vocabulary,
        decoder=spec(Decoder, blocks=(block,) * decoder_depth, norm=spec(LayerNorm)),
        ahead=ahead,
        pseudo=pseudo,
        narrow=inner,
    )
    return body.set("head", head).set("start.std", std)
