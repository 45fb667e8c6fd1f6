"""LLaMA (Touvron et al., 2023) and its successors."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead, TokenHead
from everyformer.masks import Full, Window
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import PreNorm, RMSNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec

_V3 = {"vocabulary": 128256, "base": 500000.0, "eps": 1e-5, "key_heads": 8}
_QWEN2 = {"vocabulary": 151936, "base": 1000000.0, "bias": True}
_QWEN3 = {"vocabulary": 151936, "base": 1000000.0, "key_heads": 8, "head_width": 128, "query_key_norm": True}


@system(
    "llama",
    title="LLaMA: Open and Efficient Foundation Language Models",
    authors="Touvron et al.",
    year=2023,
    arxiv="2302.13971",
    idea="A causal decoder with rotary positions, RMSNorm and SwiGLU, trained longer on more text than its size asks for.",
    tasks=("language-modelling",),
    default="7b",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4},
        "7b": {"width": 4096, "hidden": 11008, "depth": 32, "heads": 32},
        "13b": {"width": 5120, "hidden": 13824, "depth": 40, "heads": 40},
        "33b": {"width": 6656, "hidden": 17920, "depth": 60, "heads": 52},
        "65b": {"width": 8192, "hidden": 22016, "depth": 80, "heads": 64},
        "2-70b": {"width": 8192, "hidden": 28672, "depth": 80, "heads": 64, "key_heads": 8, "eps": 1e-5},
        "3-8b": {"width": 4096, "hidden": 14336, "depth": 32, "heads": 32, **_V3},
        "3-70b": {"width": 8192, "hidden": 28672, "depth": 80, "heads": 64, **_V3},
        "3.1-8b": {
            "width": 4096, "hidden": 14336, "depth": 32, "heads": 32, "llama3": (8.0, 1.0, 4.0, 8192.0), **_V3,
        },
        "3.2-1b": {
            "width": 2048, "hidden": 8192, "depth": 16, "heads": 32, "tied": True,
            "llama3": (32.0, 1.0, 4.0, 8192.0), **_V3,
        },
        "mistral-7b": {
            "width": 4096, "hidden": 14336, "depth": 32, "heads": 32, "key_heads": 8, "eps": 1e-5, "window": 4096,
        },
        "qwen2-0.5b": {"width": 896, "hidden": 4864, "depth": 24, "heads": 14, "key_heads": 2, "tied": True, **_QWEN2},
        "qwen2-1.5b": {"width": 1536, "hidden": 8960, "depth": 28, "heads": 12, "key_heads": 2, "tied": True, **_QWEN2},
        "qwen2-7b": {
            "width": 3584, "hidden": 18944, "depth": 28, "heads": 28, "key_heads": 4, **_QWEN2, "vocabulary": 152064,
        },
        "qwen3-0.6b": {"width": 1024, "hidden": 3072, "depth": 28, "heads": 16, "tied": True, **_QWEN3},
        "qwen3-1.7b": {"width": 2048, "hidden": 6144, "depth": 28, "heads": 16, "tied": True, **_QWEN3},
        "qwen3-8b": {"width": 4096, "hidden": 12288, "depth": 36, "heads": 32, **_QWEN3},
    },
)  # fmt: skip
def llama(
    *,
    vocabulary: int = 32000,
    width: int = 4096,
    hidden: int | None = None,
    depth: int = 32,
    heads: int = 32,
    key_heads: int | None = None,
    head_width: int | None = None,
    base: float = 10000.0,
    llama3: tuple[float, ...] | None = None,
    tied: bool = False,
    bias: bool = False,
    output_bias: bool = False,
    query_key_norm: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 2.2; grouped-query attention from Llama 2 on (2307.09288), longer contexts from 3.1 on (2407.21783).

    `llama3` is (factor, low, high, original length), see `positions.Rotary`. Mistral 7B lets a token see the last `window`
    (2310.06825, section 2); Qwen 2 has a `bias` on queries, keys and values (2407.10671, section 2.2.1), Qwen 3
    `query_key_norm` in its place (2505.09388, section 2).
    """
    norm = spec(RMSNorm, eps=eps)
    attention = spec(
        Attention,
        heads=heads,
        key_heads=key_heads or heads,
        head_width=head_width or width // heads,
        bias=bias,
        output_bias=output_bias,
        query_key_norm=norm if query_key_norm else None,
        mask=Window(window - 1) if window else Full(),
        positions=spec(Rotary, base=base, llama3=llama3),
        dropout=dropout,
    )
    block = spec(
        Block,
        mixer=attention,
        feedforward=spec(Gated, hidden=hidden or int(width * 8 / 3)),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
