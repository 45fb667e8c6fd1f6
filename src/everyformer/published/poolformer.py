"""PoolFormer (Yu et al., MetaFormer Is Actually What You Need for Vision, 2022)."""

from __future__ import annotations

from everyformer.backbones import ConvMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Pooling
from everyformer.models import Model, Normal
from everyformer.norms import SampleNorm
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec

SMALL, MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)


@system(
    "poolformer",
    title="MetaFormer Is Actually What You Need for Vision",
    authors="Yu et al.",
    year=2022,
    arxiv="2111.11418",
    idea="The block of a transformer with 3x3 average pooling where attention stands; the block does most of the work.",
    tasks=("image-classification",),
    default="s12",
    sizes={
        "s12": {"widths": SMALL, "depths": (2, 2, 6, 2), "scale": 1e-5},
        "s24": {"widths": SMALL, "depths": (4, 4, 12, 4), "scale": 1e-5},
        "s36": {"widths": SMALL, "depths": (6, 6, 18, 6), "scale": 1e-6, "drop_path": 0.2},
        "m36": {"widths": MEDIUM, "depths": (6, 6, 18, 6), "scale": 1e-6, "drop_path": 0.3},
        "m48": {"widths": MEDIUM, "depths": (8, 8, 24, 8), "scale": 1e-6, "drop_path": 0.4},
    },
)
def poolformer(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = SMALL,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    stride: int = 4,
    size: int = 3,
    ratio: float = 4.0,
    scale: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.1,
) -> Design:
    """Section 3.2 and table 1; `stride` is that of the first convolution, `size` the side of the pooling."""
    same_length(widths=widths, depths=depths)
    norm = spec(SampleNorm)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        return pre_norm(spec(Pooling, size=size), spec(MLP, ratio=ratio, dropout=dropout), norm, rate, scale=scale)

    embedding = spec(
        OverlapPatches, kernel=2 * stride - 1, stride=stride, padding=stride // 2, channels=channels, image=image
    )
    enter = spec(ConvMerging, kernel=3, stride=2, padding=1)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=embedding,
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path, norm=norm),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Normal),
        )
    )
