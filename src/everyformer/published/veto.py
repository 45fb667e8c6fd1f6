"""VETO (Sudhakaran et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import PairPatches
from everyformer.feedforward import MLP
from everyformer.heads import ExpertClasses
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import PreNorm
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "veto",
    title="Vision Relation Transformer for Unbiased Scene Graph Generation",
    authors="Sudhakaran et al.",
    year=2023,
    arxiv="2308.09472",
    idea="What two things are to each other is read from patches of both, their looks and depths; experts know rare relations.",
    tasks=("relations-of-things",),
    default="vg",
    sizes={"vg": {}},
)
def veto(
    *,
    groups: tuple[int, ...] = (4, 6, 9, 19, 12),
    channels: int = 256,
    depth_channels: int = 256,
    side: int = 8,
    patch: int = 2,
    kinds: int = 151,
    words: int = 200,
    place_width: int = 128,
    width: int = 576,
    depth_width: int = 512,
    depth: int = 6,
    heads: int = 6,
    ratio: float = 2.0,
    dropout: float = 0.35,
) -> Design:
    """Section 3 behind a detector: `groups` are the relations of each expert, from frequent to rare, as many as those of Visual
    Genome; of the blocks only attention has `dropout`, as in the authors' code.
    """
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, bias=False, output_bias=True),
        feedforward=spec(MLP, hidden=int(width * ratio)),
        residual=(spec(PreNorm, dropout=dropout), spec(PreNorm)),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                PairPatches, channels=channels, depth_channels=depth_channels, side=side, patch=patch, depth_width=depth_width,
                kinds=kinds, words=words, place_width=place_width, dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(block,) * depth),
            head=spec(ExpertClasses, groups=groups),
            start=spec(Xavier),
        )
    )  # fmt: skip
