"""The baselines of MetaFormer (Yu et al., MetaFormer Baselines for Vision, 2024): one body, four choices of mixers."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, ConvMerging
from everyformer.contracts import Backbone, Head, Mixer, Norm
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean, MLPHead
from everyformer.mixers import Attention, ConvMLP, Identity, RandomMixing
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm, SampleNorm, ScaledPreNorm
from everyformer.published.bodies import branches
from everyformer.published.pyramids import pyramid, same_length
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import Spec, spec

SMALL, MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
PLAIN: dict[str, dict[str, Any]] = {
    "s12": {"widths": SMALL, "depths": (2, 2, 6, 2)},
    "s24": {"widths": SMALL, "depths": (4, 4, 12, 4)},
    "s36": {"widths": SMALL, "depths": (6, 6, 18, 6)},
    "m36": {"widths": MEDIUM, "depths": (6, 6, 18, 6)},
    "m48": {"widths": MEDIUM, "depths": (8, 8, 24, 8)},
}
"""The sizes of the first two (table 1)."""
STRONG: dict[str, dict[str, Any]] = {
    "s18": {"widths": SMALL, "depths": (3, 3, 9, 3)},
    "s36": {"widths": SMALL, "depths": (3, 12, 18, 3)},
    "m36": {"widths": (96, 192, 384, 576), "depths": (3, 12, 18, 3)},
    "b36": {"widths": (128, 256, 512, 768), "depths": (3, 12, 18, 3)},
}
"""The sizes of the last two (table 2)."""
PAPER: dict[str, Any] = {
    "title": "MetaFormer Baselines for Vision",
    "authors": "Yu et al.",
    "year": 2024,
    "arxiv": "2210.13452",
    "tasks": ("image-classification",),
}


def metaformer(
    mixer: Spec[Mixer],
    norm: Spec[Norm],
    head: Spec[Head],
    *,
    image: int,
    channels: int,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    stride: int,
    drop_path: float,
) -> Design:
    """Section 2: no biases in blocks, StarReLU, and from the third stage on a factor on the trunk.

    `stride` is that of the first convolution.
    """
    same_length(widths=widths, depths=depths)
    between = spec(LayerNorm, eps=1e-6, bias=False)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        arrangement = PreNorm if stage < 2 else ScaledPreNorm
        residual = spec(arrangement, norm=norm, branches=branches(None, rate))
        feedforward = spec(MLP, activation="star_relu", bias=False)
        return spec(Block, mixer=mixer, feedforward=feedforward, residual=residual)

    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(
                OverlapPatches, kernel=2 * stride - 1, stride=stride, padding=stride // 2, channels=channels,
                image=image, norm=between,
            ),
            backbone=pyramid(
                widths, depths, block, enter=spec(ConvMerging, padding=1, before=between), drop_path=drop_path
            ),
            head=head,
            start=spec(Normal),
        )
    )  # fmt: skip


def linear(classes: int) -> Spec[Head]:
    """The mean, a norm and one map."""
    return spec(ClassHead, classes=classes, pool=spec(Mean), norm=spec(LayerNorm, eps=1e-6))


def deep(classes: int) -> Spec[Head]:
    """The mean, a norm and two maps."""
    norm = spec(LayerNorm, eps=1e-6)
    return spec(MLPHead, classes=classes, pool=spec(Mean), norm=norm, after=norm)


WHOLE = spec(SampleNorm, eps=1e-6, bias=False)
EACH = spec(LayerNorm, eps=1e-6, bias=False)


@system(
    "identityformer",
    idea="A transformer block without any mixing still sees beyond its patch through the pyramid, and is past 80 %.",
    default="s12",
    sizes=PLAIN,
    **PAPER,
)
def identityformer(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = SMALL,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    stride: int = 4,
    drop_path: float = 0.1,
) -> Design:
    """Section 2.2: the tokens are their own update."""
    return metaformer(
        spec(Identity), WHOLE, linear(classes), image=image, channels=channels, widths=widths,
        depths=depths, stride=stride, drop_path=drop_path,
    )  # fmt: skip


@system(
    "randformer",
    idea="Tokens mixed by random matrices that are never trained, in the last two of four stages.",
    default="s12",
    sizes=PLAIN,
    **PAPER,
)
@upon(identityformer)
def randformer(design: Design, *, image: int = 224, depths: tuple[int, ...] = (2, 2, 6, 2), stride: int = 4) -> Design:
    """Section 2.2: matrices for the grids that a picture of `image` pixels has in the second half of the stages."""
    for stage in range(len(depths) // 2, len(depths)):
        side = image // stride // 2**stage
        design = design.swap(f"backbone.stages.{stage}.blocks.*.mixer", spec(RandomMixing, grid=(side, side)))
    return design


def separable() -> Spec[Mixer]:
    """The separable convolution of MobileNetV2 (section 2.3)."""
    return spec(ConvMLP, ratio=2.0, kernel=7, before="star_relu", activation="linear", bias=False)


@system(
    "convformer",
    idea="MetaFormer with separable convolutions for mixers: a convolutional network that is past ConvNeXt.",
    default="s18",
    sizes=STRONG,
    **PAPER,
)
def convformer(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = SMALL,
    depths: tuple[int, ...] = (3, 3, 9, 3),
    stride: int = 4,
    drop_path: float = 0.2,
) -> Design:
    """Section 2.3."""
    return metaformer(
        separable(), EACH, deep(classes), image=image, channels=channels, widths=widths, depths=depths,
        stride=stride, drop_path=drop_path,
    )  # fmt: skip


@system(
    "caformer",
    idea="MetaFormer with separable convolutions in the first half of its stages and attention in the second.",
    default="s18",
    sizes=STRONG,
    **PAPER,
)
@upon(convformer, drop_path=0.15)
def caformer(
    design: Design,
    *,
    widths: tuple[int, ...] = SMALL,
    depths: tuple[int, ...] = (3, 3, 9, 3),
    head_width: int = 32,
) -> Design:
    """Section 2.3: heads of width `head_width`."""
    for stage in range(len(depths) // 2, len(depths)):
        mixer = spec(Attention, heads=widths[stage] // head_width, bias=False)
        design = design.swap(f"backbone.stages.{stage}.blocks.*.mixer", mixer)
    return design
