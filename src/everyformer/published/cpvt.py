"""CPVT (Chu et al., Conditional Positional Encodings for Vision Transformers, 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import AnchoredPatches, Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, FirstToken, Mean
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.published.bodies import plain
from everyformer.published.pvt import conditional
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "cpvt",
    title="Conditional Positional Encodings for Vision Transformers",
    authors="Chu et al.",
    year=2021,
    arxiv="2102.10882",
    idea="A ViT whose positions are a 3x3 convolution over its own tokens, so that it takes pictures of any size.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"width": 192, "heads": 3},
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
        "tiny-gap": {"width": 192, "heads": 3, "first": 0},
        "small-gap": {"width": 384, "heads": 6, "first": 0},
    },
)
def cpvt(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    ratio: float = 4.0,
    first: int = 1,
    kernel: int = 3,
    generators: int = 1,
    dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3.2: a position encoding generator after each of the first `generators` blocks.

    With `first` = 0 there is no class token, and the mean is read (CPVT-GAP).
    """
    norm = spec(LayerNorm, eps=eps)
    body = plain(
        depth, mixer=spec(Attention, heads=heads), feedforward=spec(MLP, ratio=ratio), norm=norm, last=norm,
        drop_path=drop_path, dropout=dropout,
    )  # fmt: skip
    made = Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=patch, channels=channels, image=image, first=first, dropout=dropout),
            backbone=body,
            head=spec(ClassHead, classes=classes, pool=spec(FirstToken if first else Mean)),
            start=spec(Normal),
        )
    )
    for i in range(generators):
        made = made.insert(f"backbone.blocks.{2 * i + 1}", conditional(kernel))
    return made


@system(
    "shift-equivariant-vit",
    title="Reviving Shift Equivariance in Vision Transformers",
    authors="Ding et al.",
    year=2023,
    arxiv="2306.07470",
    idea="The picture is cut into patches where its strongest part begins, so that moving it around changes no answer.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"width": 192, "heads": 3},
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
    },
)
@upon(cpvt, fixed={"first": 0, "generators": 1})
def shift_equivariant_vit(
    design: Design, *, image: int = 224, patch: int = 16, channels: int = 3, dropout: float = 0.0
) -> Design:
    """Section 3: a ViT; positions are a convolution whose two ends meet, and the mean of the tokens is read."""
    patches = spec(AnchoredPatches, patch=patch, channels=channels, image=image, dropout=dropout)
    return design.swap("embedding", patches).set("backbone.blocks.1.mixer.padding", "circular")
