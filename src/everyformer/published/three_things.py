"""Three things everyone should know about Vision Transformers (Touvron et al., 2022)."""

from __future__ import annotations

import math

from torch import nn

from everyformer.backbones import BranchedBlock, Encoder
from everyformer.contracts import Head, Mixer
from everyformer.designs import Design
from everyformer.embeddings import PatchwiseStem
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import branches, rising
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "three-things-vit",
    title="Three things everyone should know about Vision Transformers",
    authors="Touvron et al.",
    year=2022,
    arxiv="2203.09795",
    idea="Layers of a ViT can stand side by side, attention alone can be fine-tuned, and a stem need not look past a patch.",
    tasks=("image-classification",),
    default="small-18x2",
    sizes={
        "small-18x2": {"width": 384, "depth": 18, "heads": 6},
        "base-18x2": {"width": 768, "depth": 18, "heads": 12},
        "base-6x2": {"width": 768, "depth": 6, "heads": 12},
    },
)
def three_things_vit(
    *,
    classes: int = 1000,
    image: int = 224,
    strides: tuple[int, ...] = (4, 2, 2),
    channels: int = 3,
    width: int = 384,
    depth: int = 18,
    branches_each: int = 2,
    heads: int = 6,
    ratio: float = 4.0,
    scale: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Sections 3 and 5: `depth` blocks of parallel branches after a stem that keeps to its patch, the product of `strides`.

    To fine-tune it, or any model, by its attention alone (section 4), see `attention_only`.
    """
    norm = spec(LayerNorm, eps=eps)
    mixers = (spec(Attention, heads=heads),) * branches_each
    mlps = (spec(MLP, ratio=ratio),) * branches_each
    blocks = tuple(
        spec(
            BranchedBlock,
            mixers=mixers,
            feedforwards=mlps,
            residual=spec(PreNorm, norm=norm, dropout=dropout, branches=branches(scale, rate)),
        )
        for rate in rising(drop_path, depth)
    )
    stem = spec(PatchwiseStem, strides=strides, channels=channels, image=image, first=1, dropout=dropout)
    side = image // math.prod(strides)
    return Design(
        spec(
            Model,
            width=width,
            embedding=stem.but(positions=spec(LearnedGrid, grid=(side, side))),
            backbone=spec(Encoder, blocks=blocks, norm=norm),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )


def attention_only(model: nn.Module) -> list[nn.Parameter]:
    """Freeze all of a trained model but its mixers and its head, and return what is left to train (section 4)."""
    model.requires_grad_(False)
    left = [module for module in model.modules() if isinstance(module, (Mixer, Head))]
    for module in left:
        module.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
