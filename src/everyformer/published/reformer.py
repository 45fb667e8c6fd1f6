"""Reformer (Kitaev et al., 2020)."""

from __future__ import annotations

import math

from everyformer.backbones import Decoder, Encoder, Reversible, ReversibleBlock
from everyformer.contracts import Mixer
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.errors import UnknownName
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.masks import Block, Causal, Mask
from everyformer.mixers import Attention, ChunkedLSHAttention, LSHAttention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Axial, Learned
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "reformer",
    title="Reformer: The Efficient Transformer",
    authors="Kitaev et al.",
    year=2020,
    arxiv="2001.04451",
    idea="Tokens attend to those that hash into their bucket, and blocks that can be run backwards keep nothing for training.",
    tasks=("language-modelling",),
    default="base",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4, "length": 64, "chunk": 16, "buckets": 8, "rounds": 2},
        "base": {
            "width": 256, "hidden": 512, "depth": 6, "heads": 2, "head_width": 64, "length": 65536, "grid": (128, 512),
            "widths": (64, 192),
        },
        "enwik8": {
            "vocabulary": 258, "width": 1024, "hidden": 4096, "depth": 12, "pattern": ("local", "local", "lsh", "local"),
            "heads": 8, "length": 65536, "window": 128, "chunk": 256, "rounds": 4, "buckets": 512, "grid": (128, 512),
            "widths": (256, 768),
        },
    },
)  # fmt: skip
def reformer(
    *,
    vocabulary: int = 320,
    length: int = 4096,
    width: int = 256,
    hidden: int | None = None,
    depth: int = 6,
    pattern: tuple[str, ...] = ("local", "lsh"),
    heads: int = 4,
    head_width: int | None = None,
    window: int | None = None,
    chunk: int = 64,
    buckets: int | tuple[int, ...] | None = None,
    rounds: int = 1,
    grid: tuple[int, ...] | None = None,
    widths: tuple[int, ...] | None = None,
    released: bool = False,
    activation: str = "relu",
    dropout: float = 0.0,
    eps: float = 1e-12,
) -> Design:
    """Sections 2 to 4: layers of the `pattern` in turn, two streams that both begin as the embedding and are normalised
    together at the end. Local layers see their own `window` tokens and those before; without `buckets` there are twice as
    many as chunks. `grid` folds the line of places (axial positions).

    `released`: chunks are attended to across buckets, as the official code does, whose answers later tokens move a little.
    """
    causal = Causal() if released else None
    local: Mask = Block(window or chunk, back=1)
    local = local if causal is None else local & causal
    hashed = spec(ChunkedLSHAttention, mask=causal) if causal is not None else spec(LSHAttention)
    mixers: dict[str, Spec[Mixer]] = {
        "local": spec(Attention, heads=heads, head_width=head_width, bias=False, mask=local),
        "lsh": hashed.but(
            heads=heads, head_width=head_width, chunk=chunk, rounds=rounds, buckets=buckets or plenty(length, chunk)
        ),
    }
    for each in pattern:
        if each not in mixers:
            raise UnknownName("kind of layer", each, mixers)
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        ReversibleBlock,
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        residual=spec(PreNorm, norm=norm, dropout=dropout),
    )
    blocks = tuple(block.but(mixer=mixers[pattern[i % len(pattern)]]) for i in range(depth))
    positions = spec(Learned, length=length) if grid is None else spec(Axial, grid=grid, widths=widths)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=positions, dropout=dropout),
            backbone=spec(Encoder if released else Decoder, blocks=(spec(Reversible, blocks=blocks),), norm=norm),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )


def plenty(length: int, chunk: int) -> int | tuple[int, ...]:
    """Twice as many buckets as chunks, a power of 2, in two factors where that is many (official code)."""
    power = max(int(math.log2(max(2 * (length // chunk), 2))), 1)
    if 2**power <= 2 * max(int((length // chunk) ** 0.5), chunk):
        return 2**power
    return 2 ** (power // 2), 2 ** (power - power // 2)
