"""LIT (Pan et al., Less is More, 2022)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import DeformableMerging
from everyformer.contracts import Backbone, Mixer
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, FirstToken, Mean
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid, RelativeGrid
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "lit",
    title="Less is More: Pay Less Attention in Vision Transformers",
    authors="Pan et al.",
    year=2022,
    arxiv="2105.14217",
    idea="A pyramid without attention in its first two stages, whose merging looks for the patches that belong together.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {
            "widths": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "heads": (1, 2, 5, 8), "ratios": (8.0, 8.0, 4.0, 4.0),
            "relative": False, "drop_path": 0.1, "eps": 1e-6,
        },
        "small": {},
        "medium": {"depths": (2, 2, 18, 2), "drop_path": 0.3},
        "base": {
            "widths": (128, 256, 512, 1024), "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "drop_path": 0.5,
        },
    },
)  # fmt: skip
def lit(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    widths: tuple[int, ...] = (96, 192, 384, 768),
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (3, 6, 12, 24),
    ratios: tuple[float, ...] = (4.0,) * 4,
    attending: int = 2,
    relative: bool = True,
    drop_path: float = 0.2,
    eps: float = 1e-5,
) -> Design:
    """Section 3: attention in the last `attending` stages, MLPs alone before them.

    `relative`: biases by offset on a grid of the stage, and the mean classifies; else, as in the tiny one, learned
    positions in every stage and a class token in the last. `image` is the size that both are built for.
    """
    same_length(widths=widths, depths=depths, heads=heads, ratios=ratios)
    norm, last = spec(LayerNorm, eps=eps), len(depths) - 1
    sides = [max(image // patch // 2**i, 1) for i in range(len(depths))]

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer: Spec[Mixer] | None = None
        if stage > last - attending:
            positions = spec(RelativeGrid, window=sides[stage]) if relative else None
            mixer = spec(Attention, heads=heads[stage], positions=positions)
        return pre_norm(mixer, spec(MLP, ratio=ratios[stage]), norm, rate)

    def more(stage: int) -> dict[str, Any]:
        side = sides[stage]
        places = {"places": spec(LearnedGrid, grid=(side, side)), "first": int(stage == last)}
        return {} if relative else places

    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm),
            backbone=pyramid(
                widths, depths, block, enter=spec(DeformableMerging), drop_path=drop_path, norm=norm, more=more
            ),
            head=spec(ClassHead, classes=classes, pool=spec(Mean) if relative else spec(FirstToken)),
            start=spec(Normal),
        )
    )  # fmt: skip
