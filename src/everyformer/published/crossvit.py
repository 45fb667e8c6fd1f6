"""CrossViT (Chen et al., 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import TwoBranches, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "crossvit",
    title="CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification",
    authors="Chen et al.",
    year=2021,
    arxiv="2103.14899",
    idea="Two ViTs, of small and of large patches; the class token of each asks the patches of the other.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"width": 192, "narrow": 96, "heads": 3, "depth": 4, "ratio": 4.0},
        "small": {"width": 384, "narrow": 192, "heads": 6, "depth": 4, "ratio": 4.0},
        "base": {"width": 768, "narrow": 384, "heads": 12, "depth": 4, "ratio": 4.0},
        "9": {"width": 256, "narrow": 128, "heads": 4, "depth": 3},
        "15": {"width": 384, "narrow": 192, "heads": 6, "depth": 5},
        "18": {"width": 448, "narrow": 224, "heads": 7, "depth": 6},
    },
)
def crossvit(
    *,
    classes: int = 1000,
    image: int = 240,
    small_image: int | None = None,
    patches: tuple[int, int] = (12, 16),
    channels: int = 3,
    width: int = 384,
    narrow: int = 192,
    depth: int = 4,
    narrow_depth: int = 1,
    stages: int = 3,
    heads: int = 6,
    ratio: float = 3.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: the narrow branch has small patches of the whole picture, the other large ones of a smaller copy.

    `small_image` is the side of that copy, 14/15 of `image` unless given (224 of 240). `depth` blocks a stage and branch.
    """
    norm = spec(LayerNorm, eps=eps)
    widths, depths = (narrow, width), (narrow_depth, depth)
    images = image, small_image or image * 14 // 15
    mixer, mlp = spec(Attention, heads=heads), spec(MLP, ratio=ratio)

    def cut(patch: int, side: int) -> Spec[Patches]:
        positions = spec(LearnedGrid, grid=(side // patch, side // patch))
        return spec(Patches, patch=patch, channels=channels, image=side, first=1, positions=positions)

    stage = tuple(plain(each, mixer=mixer, feedforward=mlp, norm=norm, last=None) for each in depths)
    asking = spec(CrossAttention, heads=heads, memory="tokens")
    head = spec(ClassHead, classes=classes, norm=norm)
    return Design(
        spec(
            TwoBranches,
            widths=widths,
            embeddings=(cut(patches[0], images[0]), cut(patches[1], images[1])),
            stages=(stage,) * stages,
            mixers=((asking, asking),) * stages,
            heads=(head, head),
            norm=norm,
            scales=(1.0, images[1] / image),
            start=spec(Xavier),
        )
    )
