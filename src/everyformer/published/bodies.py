"""What the plain transformers of pictures share: a stack of pre-norm blocks."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Encoder
from everyformer.contracts import FeedForward, Mixer, Norm
from everyformer.mixers import Attention
from everyformer.norms import LayerScale, PreNorm, StochasticDepth
from everyformer.specs import Spec, spec


def rising(rate: float, depth: int) -> list[float]:
    """Stochastic depth of each block, from 0 to `rate` (Huang et al., 2016, section 3)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def branches(scale: float | None, rate: float) -> tuple[Spec[Any], ...]:
    """What an update passes: LayerScale that starts at `scale`, then stochastic depth."""
    scaled = () if scale is None else (spec(LayerScale, start=scale),)
    return (*scaled, spec(StochasticDepth, rate=rate)) if rate else scaled


def attention(heads: int, qkv_bias: bool = True) -> Spec[Attention]:
    """Attention, the maps of queries, keys and values with a bias or without."""
    return spec(Attention, heads=heads) if qkv_bias else spec(Attention, heads=heads, bias=False, output_bias=True)


def plain(
    depth: int,
    *,
    mixer: Spec[Mixer],
    feedforward: Spec[FeedForward],
    norm: Spec[Norm],
    last: Spec[Norm] | None,
    scale: float | None = None,
    drop_path: float = 0.0,
    dropout: float = 0.0,
) -> Spec[Encoder]:
    """Equal pre-norm blocks, with a `last` norm after them."""
    blocks = []
    for rate in rising(drop_path, depth):
        residual = spec(PreNorm, norm=norm, dropout=dropout, branches=branches(scale, rate))
        blocks.append(spec(Block, mixer=mixer, feedforward=feedforward, residual=residual))
    return spec(Encoder, blocks=tuple(blocks), norm=last)
