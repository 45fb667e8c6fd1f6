"""Compact transformers: CCT, the Compact Vision Transformer and ViT-Lite (Hassani et al., 2021).

Weights start as in the code of the ViT paper (Glorot uniform). The 0.02 of the official CCT code is small for narrow
models: on scikit-learn's digits, width 64, 40 epochs, it reaches 97.8 % (CCT) and 79.4 % (patches), this 99.2 % and 97.5 %.
"""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import ConvStem, Patches
from everyformer.errors import UnknownName
from everyformer.feedforward import MLP
from everyformer.heads import AttentionPool, ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm, TrunkNorm
from everyformer.positions import LearnedGrid, RasterSinusoidal
from everyformer.published.bodies import branches, rising
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import Spec, spec

PAPER = "Escaping the Big Data Paradigm with Compact Transformers"
BODIES: dict[str, dict[str, Any]] = {
    "2": {"width": 128, "depth": 2, "heads": 2, "ratio": 1.0},
    "4": {"width": 128, "depth": 4, "heads": 2, "ratio": 1.0},
    "6": {"width": 256, "depth": 6, "heads": 4, "ratio": 2.0},
    "7": {"width": 256, "depth": 7, "heads": 4, "ratio": 2.0},
    "14": {"width": 384, "depth": 14, "heads": 6, "ratio": 3.0},
}
"""The bodies by their number of layers."""


def positions_named(name: str, grid: tuple[int, int]) -> Spec[Any] | None:
    """'learned', 'sine' or 'none', as the official code has them."""
    known = {"learned": spec(LearnedGrid, grid=grid, std=0.2), "sine": spec(RasterSinusoidal), "none": None}
    if name not in known:
        raise UnknownName("positions", name, known)
    return known[name]


def body(
    depth: int, heads: int, ratio: float, dropout: float, attention_dropout: float, drop_path: float
) -> Spec[Encoder]:
    """The encoder of the official code: the trunk itself passes the norm before each feedforward."""
    mixer = spec(Attention, heads=heads, bias=False, output_bias=True, dropout=attention_dropout)
    mlp = spec(MLP, ratio=ratio, dropout=dropout)
    blocks = []
    for rate in rising(drop_path, depth):
        residual = (
            spec(PreNorm, dropout=dropout, branches=branches(None, rate)),
            spec(TrunkNorm, dropout=dropout, branches=branches(None, rate)),
        )
        blocks.append(spec(Block, mixer=mixer, feedforward=mlp, residual=residual))
    return spec(Encoder, blocks=tuple(blocks), norm=spec(LayerNorm))


def cut_up(image: int, patch: int, channels: int, positions: str, dropout: float, *, first: int) -> Spec[Patches]:
    """Patches instead of convolutions, with a class token or none."""
    side = image // patch
    return spec(
        Patches, patch=patch, channels=channels, image=image, first=first,
        positions=positions_named(positions, (side, side)), dropout=dropout,
    )  # fmt: skip


def classifier(width: int, embedding: Spec[Any], backbone: Spec[Encoder], head: Spec[ClassHead]) -> Design:
    """The whole model."""
    return Design(spec(Model, width=width, embedding=embedding, backbone=backbone, head=head, start=spec(Xavier)))


@system(
    "cct",
    title=PAPER,
    authors="Hassani et al.",
    year=2021,
    arxiv="2104.05704",
    idea="A small ViT with a convolutional stem and attention pooling learns well from few pictures.",
    tasks=("image-classification",),
    default="7/3x1",
    sizes={
        "2/3x2": {**BODIES["2"], "kernel": 3, "convs": 2},
        "4/3x2": {**BODIES["4"], "kernel": 3, "convs": 2},
        "6/3x1": {**BODIES["6"], "kernel": 3, "convs": 1},
        "6/3x2": {**BODIES["6"], "kernel": 3, "convs": 2},
        "7/3x1": {**BODIES["7"], "kernel": 3, "convs": 1},
        "7/3x2": {**BODIES["7"], "kernel": 3, "convs": 2},
        "7/7x2": {**BODIES["7"], "kernel": 7, "convs": 2, "image": 224, "classes": 102},
        "14/7x2": {**BODIES["14"], "kernel": 7, "convs": 2, "image": 224, "classes": 1000},
    },
)
def cct(
    *,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
    width: int = 256,
    depth: int = 7,
    heads: int = 4,
    ratio: float = 2.0,
    convs: int = 1,
    kernel: int = 3,
    hidden: int = 64,
    positions: str = "learned",
    dropout: float = 0.0,
    attention_dropout: float = 0.1,
    drop_path: float = 0.1,
) -> Design:
    """Sections 3.2 and 3.3; a size is layers / kernel x convolutions, `image` the size that positions are built for."""
    stem = spec(
        ConvStem, convs=convs, kernel=kernel, hidden=hidden, channels=channels, image=image,
        positions=positions_named(positions, ConvStem.grid(image, convs, kernel)), dropout=dropout,
    )  # fmt: skip
    encoder = body(depth, heads, ratio, dropout, attention_dropout, drop_path)
    return classifier(width, stem, encoder, spec(ClassHead, classes=classes, pool=spec(AttentionPool)))


@system(
    "compact-vit",
    title=PAPER,
    authors="Hassani et al.",
    year=2021,
    arxiv="2104.05704",
    idea="A small ViT whose class token gives way to attention pooling (the paper's CVT).",
    tasks=("image-classification",),
    default="7/4",
    sizes={f"{depth}/4": BODIES[depth] for depth in ("2", "4", "6", "7")},
)
def compact_vit(
    *,
    classes: int = 10,
    image: int = 32,
    patch: int = 4,
    channels: int = 3,
    width: int = 256,
    depth: int = 7,
    heads: int = 4,
    ratio: float = 2.0,
    positions: str = "learned",
    dropout: float = 0.0,
    attention_dropout: float = 0.1,
    drop_path: float = 0.1,
) -> Design:
    """Section 3.2; a size is layers / patch."""
    encoder = body(depth, heads, ratio, dropout, attention_dropout, drop_path)
    cut = cut_up(image, patch, channels, positions, dropout, first=0)
    return classifier(width, cut, encoder, spec(ClassHead, classes=classes, pool=spec(AttentionPool)))


@system(
    "vit-lite",
    title=PAPER,
    authors="Hassani et al.",
    year=2021,
    arxiv="2104.05704",
    idea="ViT made small: few layers, small patches, a class token; what the compact transformers are measured against.",
    tasks=("image-classification",),
    default="7/4",
    sizes={f"{depth}/4": BODIES[depth] for depth in ("2", "4", "6", "7")},
)
@upon(compact_vit)
def vit_lite(design: Design, *, classes: int = 10) -> Design:
    """Section 3.1; a size is layers / patch."""
    return design.set("embedding.first", 1).set("head", spec(ClassHead, classes=classes))
