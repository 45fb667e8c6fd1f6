"""RWKV (Peng et al., 2023), version 4."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.heads import TokenHead
from everyformer.mixers import ChannelMix, TimeMix
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "rwkv",
    title="RWKV: Reinventing RNNs for the Transformer Era",
    authors="Peng et al.",
    year=2023,
    arxiv="2305.13048",
    idea="A decaying average for each channel in place of attention: trained in parallel, used as a recurrence.",
    tasks=("language-modelling",),
    default="169m",
    sizes={
        "nano": {"width": 128, "depth": 4},
        "169m": {"width": 768, "depth": 12},
        "430m": {"width": 1024, "depth": 24},
        "1.5b": {"width": 2048, "depth": 24},
        "3b": {"width": 2560, "depth": 32},
        "7b": {"width": 4096, "depth": 32},
        "14b": {"width": 5120, "depth": 40},
    },
)
def rwkv(
    *,
    vocabulary: int = 50277,
    width: int = 768,
    hidden: int | None = None,
    inner: int | None = None,
    depth: int = 12,
    eps: float = 1e-5,
) -> Design:
    """Section 3: each layer is a block of time mixing and one of channel mixing; `inner` is the first's width."""
    norm = spec(LayerNorm, eps=eps)
    residual = spec(PreNorm, norm=norm)
    blocks = []
    for i in range(depth):
        time = spec(TimeMix, hidden=inner or width, layer=i, layers=depth)
        channel = spec(ChannelMix, hidden=hidden or 4 * width, layer=i, layers=depth)
        blocks += [spec(Block, mixer=each, feedforward=None, residual=residual) for each in (time, channel)]
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, norm=norm),
            backbone=spec(Decoder, blocks=tuple(blocks), norm=norm),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
