"""Pyramid vision transformers with spatial reduction: PVT, PVT v2 (Wang et al., 2021, 2022), SegFormer's encoder
(Xie et al., 2021), and Twins (Chu et al., 2021).
"""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, ConvMerging
from everyformer.contracts import Backbone, Mixer
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches, Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, FirstToken, Mean
from everyformer.mixers import Attention, ConvMLP, Depthwise, ReducedAttention, Windows
from everyformer.models import Model, Normal
from everyformer.norms import Identity, LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec

WIDE = (64, 128, 320, 512)
RATIOS = (8.0, 8.0, 4.0, 4.0)
REDUCTIONS = (8, 4, 2, 1)


def reduced(heads: int, reduction: int, eps: float, dropout: float, bias: bool = True) -> Spec[Mixer]:
    """Attention to the map made `reduction` times coarser by a convolution and a norm; plain where that is 1."""
    if reduction == 1:
        return spec(Attention, heads=heads, bias=bias, output_bias=True, dropout=dropout)
    merging = spec(ConvMerging, kernel=reduction, stride=reduction, norm=spec(LayerNorm, eps=eps))
    return spec(ReducedAttention, heads=heads, bias=bias, reduce=merging, dropout=dropout)


@system(
    "pvt",
    title="Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions",
    authors="Wang et al.",
    year=2021,
    arxiv="2102.12122",
    idea="A transformer in four stages of ever coarser grids, whose attention reads a map made coarser still.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"depths": (2, 2, 2, 2)},
        "small": {"depths": (3, 4, 6, 3)},
        "medium": {"depths": (3, 4, 18, 3), "drop_path": 0.3},
        "large": {"depths": (3, 8, 27, 3), "drop_path": 0.3},
    },
)
def pvt(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    widths: tuple[int, ...] = WIDE,
    depths: tuple[int, ...] = (3, 4, 6, 3),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratios: tuple[float, ...] = RATIOS,
    reductions: tuple[int, ...] = REDUCTIONS,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3: learned positions in every stage, a class token in the last; `image` is the size they are built for."""
    same_length(widths=widths, depths=depths, heads=heads, ratios=ratios, reductions=reductions)
    norm = spec(LayerNorm, eps=eps)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = reduced(heads[stage], reductions[stage], eps, attention_dropout)
        mlp = spec(MLP, ratio=ratios[stage], dropout=dropout)
        return pre_norm(mixer, mlp, norm, rate, dropout=dropout)

    def more(stage: int) -> dict[str, Any]:
        side = image // patch // 2**stage
        places = spec(LearnedGrid, grid=(side, side), mode="bilinear")
        return {"places": places, "first": int(stage == len(depths) - 1)}

    enter = spec(ConvMerging, kernel=2, stride=2, norm=norm)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path, norm=norm, more=more),
            head=spec(ClassHead, classes=classes, pool=spec(FirstToken)),
            start=spec(Normal),
        )
    )


@system(
    "pvt-v2",
    title="PVT v2: Improved Baselines with Pyramid Vision Transformer",
    authors="Wang et al.",
    year=2022,
    arxiv="2106.13797",
    idea="PVT with overlapping patches and a convolution inside the MLP, which makes positions unnecessary.",
    tasks=("image-classification",),
    default="b1",
    sizes={
        "b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
        "b1": {"depths": (2, 2, 2, 2)},
        "b2": {"depths": (3, 4, 6, 3)},
        "b3": {"depths": (3, 4, 18, 3), "drop_path": 0.3},
        "b4": {"depths": (3, 8, 27, 3), "drop_path": 0.3},
        "b5": {"depths": (3, 6, 40, 3), "ratios": (4.0, 4.0, 4.0, 4.0), "drop_path": 0.3},
    },
)
def pvt_v2(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = WIDE,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratios: tuple[float, ...] = RATIOS,
    reductions: tuple[int, ...] = REDUCTIONS,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3; every stage ends with a norm."""
    same_length(widths=widths, depths=depths, heads=heads, ratios=ratios, reductions=reductions)
    norm = spec(LayerNorm, eps=eps)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = reduced(heads[stage], reductions[stage], eps, attention_dropout)
        mlp = spec(ConvMLP, ratio=ratios[stage], dropout=dropout)
        return pre_norm(mixer, mlp, norm, rate, dropout=dropout)

    enter = spec(ConvMerging, kernel=3, stride=2, padding=1, norm=norm)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(OverlapPatches, channels=channels, image=image, norm=norm),
            backbone=pyramid(
                widths, depths, block, enter=enter, drop_path=drop_path, more=lambda stage: {"norm": norm}
            ),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Normal),
        )
    )  # fmt: skip


MIT = (64, 128, 320, 512)


@system(
    "segformer",
    title="SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
    authors="Xie et al.",
    year=2021,
    arxiv="2105.15203",
    idea="The Mix Transformer: overlapping patches, attention to a reduced map, and a 3x3 convolution inside the MLP.",
    tasks=("image-classification",),
    default="b0",
    sizes={
        "b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
        "b1": {"widths": MIT, "depths": (2, 2, 2, 2)},
        "b2": {"widths": MIT, "depths": (3, 4, 6, 3)},
        "b3": {"widths": MIT, "depths": (3, 4, 18, 3)},
        "b4": {"widths": MIT, "depths": (3, 8, 27, 3)},
        "b5": {"widths": MIT, "depths": (3, 6, 40, 3)},
    },
)
def segformer(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = (32, 64, 160, 256),
    depths: tuple[int, ...] = (2, 2, 2, 2),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratio: float = 4.0,
    reductions: tuple[int, ...] = REDUCTIONS,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-5,
) -> Design:
    """Section 3.1: the encoder, MiT, with the head it is pre-trained with; its stages feed a decoder of masks.

    `eps` is the one that Hugging Face's copy has in every norm; the authors' code has 1e-6 in some of them.
    """
    made = pvt_v2(
        classes=classes, image=image, channels=channels, widths=widths, depths=depths, heads=heads,
        ratios=(ratio,) * len(depths), reductions=reductions, dropout=dropout, attention_dropout=attention_dropout,
        drop_path=drop_path, eps=eps,
    )  # fmt: skip
    return made


def conditional(kernel: int = 3) -> Spec[Backbone]:
    """The position encoding generator of CPVT: x + convolution of each channel (Chu et al., 2021, section 3.2)."""
    mixer = spec(Depthwise, kernel=kernel)
    return spec(Block, mixer=mixer, feedforward=None, residual=spec(PreNorm, norm=spec(Identity)))


@system(
    "twins",
    title="Twins: Revisiting the Design of Spatial Attention in Vision Transformers",
    authors="Chu et al.",
    year=2021,
    arxiv="2104.13840",
    idea="Attention inside windows, then attention to a coarser map; positions come from a convolution in every stage.",
    tasks=("image-classification",),
    default="svt-small",
    sizes={
        "pcpvt-small": {"depths": (3, 4, 6, 3)},
        "pcpvt-base": {"depths": (3, 4, 18, 3)},
        "pcpvt-large": {"depths": (3, 8, 27, 3)},
        "svt-small": {
            "widths": (64, 128, 256, 512), "depths": (2, 2, 10, 4), "heads": (2, 4, 8, 16), "ratios": (4.0,) * 4,
            "window": 7,
        },
        "svt-base": {
            "widths": (96, 192, 384, 768), "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24), "ratios": (4.0,) * 4,
            "window": 7,
        },
        "svt-large": {
            "widths": (128, 256, 512, 1024), "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "ratios": (4.0,) * 4,
            "window": 7,
        },
    },
)  # fmt: skip
def twins(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    widths: tuple[int, ...] = WIDE,
    depths: tuple[int, ...] = (3, 4, 6, 3),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratios: tuple[float, ...] = RATIOS,
    reductions: tuple[int, ...] = REDUCTIONS,
    window: int | None = None,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.2,
    eps: float = 1e-6,
) -> Design:
    """Sections 3.1 (Twins-PCPVT) and 3.2 (Twins-SVT: with a `window`, which every second block stands in)."""
    same_length(widths=widths, depths=depths, heads=heads, ratios=ratios, reductions=reductions)
    norm = spec(LayerNorm, eps=eps)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = reduced(heads[stage], reductions[stage], 1e-5, attention_dropout)
        if window is not None and index % 2 == 0:
            mixer = spec(
                Windows, mixer=spec(Attention, heads=heads[stage], dropout=attention_dropout), size=window
            )  # fmt: skip
        mlp = spec(MLP, ratio=ratios[stage], dropout=dropout)
        return pre_norm(mixer, mlp, norm, rate, dropout=dropout)

    enter = spec(ConvMerging, kernel=2, stride=2, norm=spec(LayerNorm))
    made = Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=spec(LayerNorm)),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path, norm=norm),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Normal),
        )
    )
    for stage in range(len(depths)):
        made = made.insert(f"backbone.stages.{stage}.blocks.1", conditional())
    return made
