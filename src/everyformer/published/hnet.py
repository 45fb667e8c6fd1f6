"""H-Net (Hwang et al., 2025)."""

from __future__ import annotations

from everyformer.backbones import Block, Chunked, Decoder, DynamicChunks, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import Gated
from everyformer.heads import TokenHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import PreNorm, RMSNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import Spec, spec


def rotary_body(depth: int, heads: int) -> Spec[Encoder]:
    """A stack that can stand inside a decoder: rotary positions, gated feedforwards, RMSNorm before them and at the end."""
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, bias=False, positions=spec(Rotary)),
        feedforward=spec(Gated),
        residual=spec(PreNorm, norm=spec(RMSNorm)),
    )
    return spec(Encoder, blocks=(block,) * depth, norm=spec(RMSNorm))


@system(
    "h-net",
    title="Dynamic Chunking for End-to-End Hierarchical Sequence Modeling",
    authors="Hwang et al.",
    year=2025,
    arxiv="2507.07955",
    idea="A byte model learns where to cut: where neighbours differ a chunk begins, and a larger model sees chunks alone.",
    tasks=("language-modelling",),
    default="1stage-l",
    sizes={
        "nano": {"width": 128, "inner_width": 128, "outer": 1, "depth": 2, "heads": 4},
        "1stage-l": {"width": 1024, "inner_width": 1536, "outer": 4, "depth": 22, "heads": 16},
    },
)
def hnet(
    *,
    vocabulary: int = 256,
    width: int = 1024,
    inner_width: int = 1536,
    outer: int = 4,
    depth: int = 22,
    heads: int = 16,
    length: float = 6.0,
    ratio: float = 0.03,
) -> Design:
    """Section 2, one stage; encoder and decoder are of causal attention here, where the paper has Mamba-2."""

    chunked = spec(
        Chunked,
        encoder=rotary_body(outer, heads),
        chunks=spec(DynamicChunks, length=length, ratio=ratio),
        inner=rotary_body(depth, heads),
        decoder=rotary_body(outer, heads),
        inner_width=inner_width,
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(chunked,)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
