"""DenseFormer (Pagliardini et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, DepthWeighted
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Rotary
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "denseformer",
    title="DenseFormer: Enhancing Information Flow in Transformers via Depth Weighted Averaging",
    authors="Pagliardini et al.",
    year=2024,
    arxiv="2402.02622",
    idea="After every block a learned weighted sum of all outputs so far, the embedding among them, is what the next reads.",
    tasks=("language-modelling",),
    default="48",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4, "dilation": 1, "period": 1},
        "48": {"width": 768, "depth": 48, "heads": 12},
        "72": {"width": 768, "depth": 72, "heads": 12},
    },
)
def denseformer(
    *,
    vocabulary: int = 50304,
    width: int = 768,
    depth: int = 48,
    heads: int = 12,
    dilation: int = 4,
    period: int = 5,
    dropout: float = 0.0,
) -> Design:
    """Sections 3 and 4: GPT-2's blocks with rotary positions and without biases; dilation x period is 4x5 by default."""
    norm = spec(LayerNorm, bias=False)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, bias=False, dropout=dropout),
        feedforward=spec(MLP, hidden=4 * width, bias=False),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, dropout=dropout),
            backbone=spec(
                Decoder,
                blocks=(block,) * depth,
                norm=norm,
                positions=spec(Rotary),
                depth=spec(DepthWeighted, dilation=dilation, period=period),
            ),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
