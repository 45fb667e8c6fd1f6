"""Designs that say what each pixel is: SegFormer (Xie et al., 2021), Gasformer (Sarker et al., 2024), Segmenter (Strudel et
al., 2021), VPNeXt (Tang et al., 2025), UPerNet (Xiao et al., 2018) on Swin, TransUNet (Chen et al., 2021), U-Net (Ronneberger et al., 2015) to
compare with, Dense Transformer Networks (Li et al., 2017) on it, and WeedSense (Sarker et al., 2025).
"""

from __future__ import annotations

from itertools import pairwise

from everyformer.backbones import (
    Bilateral,
    Block,
    ContextEmbedding,
    ConvMerging,
    ConvPair,
    ConvRow,
    Encoder,
    Guided,
    Pyramid,
    Stage,
    StandardBottlenecks,
    StemBlock,
    Thinning,
    UniversalBottlenecks,
    WarpedPair,
)
from everyformer.designs import Design
from everyformer.embeddings import FinePatches, OverlapPatches, RawPixels, StandardStem
from everyformer.errors import EveryformerError
from everyformer.feedforward import MLP
from everyformer.heads import (
    Beside,
    ContextReplay,
    DeepMaps,
    FigureAndClass,
    MaskTransformer,
    MixedLevels,
    MLPDecoder,
    Shuffled,
    UnwarpedUShaped,
    UPerHead,
    UShaped,
)
from everyformer.mixers import Hamburger
from everyformer.models import Model
from everyformer.norms import LayerNorm, PostNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention, plain
from everyformer.published.pvt import MIT, segformer
from everyformer.published.pyramids import residual_stages
from everyformer.published.swin import swin
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "segformer-segmentation",
    title="SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
    authors="Xie et al.",
    year=2021,
    arxiv="2105.15203",
    idea="All four stages of the Mix Transformer through linear maps alone, side by side on the finest grid.",
    tasks=("segmentation",),
    default="b0",
    sizes={
        "b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "hidden": 256},
        "b1": {"widths": MIT, "depths": (2, 2, 2, 2), "hidden": 256},
        "b2": {"widths": MIT, "depths": (3, 4, 6, 3)},
        "b3": {"widths": MIT, "depths": (3, 4, 18, 3)},
        "b4": {"widths": MIT, "depths": (3, 8, 27, 3)},
        "b5": {"widths": MIT, "depths": (3, 6, 40, 3)},
    },
)
@upon(segformer, image=512, widths=MIT)
def segformer_segmentation(
    design: Design, *, classes: int = 150, hidden: int = 768, head_dropout: float = 0.1
) -> Design:
    """Sections 3.1 and 3.2: the answer has a quarter of the picture's resolution."""
    return design.set("head", spec(MLPDecoder, classes=classes, hidden=hidden, dropout=head_dropout))


@system(
    "gasformer",
    title="Gasformer: A Transformer-based Architecture for Segmenting Methane Emissions from Livestock in Optical Gas Imaging",
    authors="Sarker et al.",
    year=2024,
    arxiv="2404.10841",
    idea="The Mix Transformer's four levels side by side, cleaned by a non-negative factorisation before they are classified.",
    tasks=("segmentation",),
    default="b0",
    sizes={"b0": {}},
)
@upon(segformer, image=512)
def gasformer(
    design: Design,
    *,
    classes: int = 2,
    hidden: int = 256,
    groups: int = 32,
    rank: int = 16,
    head_dropout: float = 0.1,
) -> Design:
    """Section 3 and the official code: SegFormer's smallest encoder under SegNeXt's head, here on all four levels; the answer
    has a quarter of the picture's resolution. Nothing else is new.
    """
    mixer = spec(Hamburger, rank=rank)
    return design.set(
        "head", spec(MixedLevels, classes=classes, mixer=mixer, hidden=hidden, groups=groups, dropout=head_dropout)
    )


@system(
    "segmenter",
    title="Segmenter: Transformer for Semantic Segmentation",
    authors="Strudel et al.",
    year=2021,
    arxiv="2105.05633",
    idea="A plain ViT, then two blocks in which a learned token of each class meets all patches; their product is the mask.",
    tasks=("segmentation",),
    default="small",
    sizes={
        "tiny": {"width": 192, "heads": 3},
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16, "image": 640},
    },
)
@upon(vit, image=512, width=384, drop_path=0.1)
def segmenter(
    design: Design,
    *,
    classes: int = 150,
    width: int = 384,
    heads: int = 6,
    head_depth: int = 2,
    head_dropout: float = 0.1,
) -> Design:
    """Section 3: the answer has a cell for each patch."""
    norm = spec(LayerNorm)
    blocks = plain(
        head_depth, mixer=attention(heads), feedforward=spec(MLP, hidden=4 * width), norm=norm, last=norm,
        dropout=head_dropout,
    )  # fmt: skip
    return design.set("head", spec(MaskTransformer, classes=classes, body=blocks, norm=norm))


@system(
    "upernet",
    title="Unified Perceptual Parsing for Scene Understanding",
    authors="Xiao et al.",
    year=2018,
    arxiv="1807.10221",
    idea="Pooled views of the coarsest level, handed down level by level, and all levels fused; here on Swin.",
    tasks=("segmentation",),
    default="swin-tiny",
    sizes={
        "swin-tiny": {"depths": (2, 2, 6, 2)},
        "swin-small": {"depths": (2, 2, 18, 2), "drop_path": 0.3},
        "swin-base": {"depths": (2, 2, 18, 2), "width": 128, "heads": (4, 8, 16, 32), "drop_path": 0.3},
    },
)
@upon(swin, image=512, drop_path=0.2)
def upernet(design: Design, *, classes: int = 150, hidden: int = 512, pools: tuple[int, ...] = (1, 2, 3, 6)) -> Design:
    """Section 3.1, on Swin as in section 4.3 of Liu et al. (2021): a norm before each level that the head reads."""
    head = spec(UPerHead, classes=classes, hidden=hidden, pools=pools, norm=spec(LayerNorm))
    return design.remove("backbone.norm").set("head", head)


@system(
    "transunet",
    title="TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation",
    authors="Chen et al.",
    year=2021,
    arxiv="2102.04306",
    idea="A ViT on the map of a residual network, and back up through a U whose skips come from that network.",
    tasks=("segmentation",),
    default="base",
    sizes={"base": {}},
)
def transunet(
    *,
    classes: int = 9,
    image: int = 224,
    channels: int = 3,
    stem: int = 64,
    convs: tuple[int, ...] = (3, 4, 9),
    groups: int = 32,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    first: int = 512,
    hidden: tuple[int, ...] = (256, 128, 64, 16),
    dropout: float = 0.1,
) -> Design:
    """Section 3: `convs` are the blocks of each stage of the residual network; the answer is as fine as the picture."""
    norm = spec(LayerNorm, eps=1e-6)
    residual = spec(PreNorm, norm=norm, dropout=dropout)
    mlp = spec(MLP, ratio=ratio, dropout=dropout)
    block = spec(Block, mixer=attention(heads), feedforward=mlp, residual=residual)
    stages = [spec(Stage, blocks=()), *residual_stages(stem, convs, StandardBottlenecks, groups=groups)]
    side = image // 2 ** (len(convs) + 1)
    body = spec(
        Stage, to=width, enter=spec(ConvMerging, kernel=1, stride=1), places=spec(LearnedGrid, grid=(side, side)),
        blocks=(block,) * depth, norm=norm,
    )  # fmt: skip
    read = (*range(len(convs)), len(convs) + 1)
    return Design(
        spec(
            Model,
            width=stem,
            embedding=spec(StandardStem, channels=channels, image=image, groups=groups),
            backbone=spec(Pyramid, stages=(*stages, body)),
            head=spec(UShaped, classes=classes, hidden=hidden, first=first, kernel=3, levels=read),
        )
    )


@system(
    "unet",
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    authors="Ronneberger et al.",
    year=2015,
    arxiv="1505.04597",
    idea="No transformer: convolutions down and up again with what stood on each grid beside; what the others compare with.",
    tasks=("segmentation",),
    default="base",
    sizes={"base": {}},
)
def unet(
    *,
    classes: int = 2,
    image: int = 572,
    channels: int = 3,
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024),
) -> Design:
    """Figure 1, with padding (the answer is as large as the picture), batch norm, bilinear steps up, and a linear
    convolution in front.
    """
    stages = [
        spec(Stage, to=width, enter=spec(ConvPair, stride=2 if i else 1), blocks=()) for i, width in enumerate(widths)
    ]
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(OverlapPatches, kernel=3, stride=1, padding=1, channels=channels, image=image),
            backbone=spec(Pyramid, stages=tuple(stages)),
            head=spec(UShaped, classes=classes, hidden=widths[-2::-1]),
        )
    )


@system(
    "vpnext",
    title="VPNeXt -- Rethinking Dense Decoding for Plain Vision Transformer",
    authors="Tang et al.",
    year=2025,
    arxiv="2502.16654",
    idea="Up from a plain ViT beside its own finer patches; while learning, earlier blocks see again what the last one sees.",
    tasks=("segmentation",),
    default="base",
    sizes={
        "small": {"width": 384, "heads": 6},
        "base": {"width": 768, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16, "replayed": (12, 18)},
    },
)
@upon(vit, image=512)
def vpnext(
    design: Design,
    *,
    classes: int = 21,
    image: int = 512,
    patch: int = 16,
    channels: int = 3,
    replayed: tuple[int, ...] = (6, 9),
    hidden: tuple[int, ...] = (256, 256),
    inner: int = 64,
) -> Design:
    """The paper's two parts, ViTUp and visual context replay. The plain ViT's blocks stand in stages that end after those
    that are `replayed`, behind its own patches taken at each finer stride on which the way up meets them (`hidden`).

    No code is published: where the finer patches come from, the blocks that are replayed and the share of their loss (0.4,
    `objectives.DeepPixelClasses`) are this library's reading.
    """
    blocks, halvings = design.get("backbone.blocks"), len(hidden)
    ends = (0, *replayed, len(blocks))
    if not all(first < second for first, second in pairwise(ends)):
        raise EveryformerError(
            f"blocks are replayed in their order, before the last of {len(blocks)}; given {replayed}"
        )
    options = design.get("embedding").options
    thinned = spec(Thinning)
    first, *rest = [
        {"blocks": blocks[start:end], "norm": design.get("backbone.norm") if end == ends[-1] else None}
        for start, end in pairwise(ends)
    ]
    body = (
        spec(Stage, blocks=()),
        *(spec(Stage, enter=thinned, blocks=()) for _ in hidden[1:]),
        spec(Stage, enter=thinned, places=options["positions"], first=1, **first),
        *(spec(Stage, **each) for each in rest),
    )
    stride = patch // 2**halvings
    embedding = spec(FinePatches, patch=patch, stride=stride, channels=channels, image=image)
    up = spec(UShaped, classes=classes, hidden=hidden, levels=(*range(halvings), -1))
    head = spec(
        ContextReplay, classes=classes, head=up, levels=tuple(range(halvings, halvings + len(replayed))), inner=inner
    )
    made = design.set("embedding", embedding).set("backbone", spec(Pyramid, stages=body))
    return made.set("head", head)


@system(
    "dense-transformer-networks",
    title="Dense Transformer Networks",
    authors="Li et al.",
    year=2017,
    arxiv="1705.08881",
    idea="A U-Net that bends one of its maps by a learned spline on the way down, and bends it back on the way up; no attention.",
    tasks=("segmentation",),
    default="base",
    sizes={"base": {}},
)
@upon(unet, image=256)
def dense_transformer_networks(
    design: Design,
    *,
    classes: int = 21,
    image: int = 256,
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024),
    warped: int = 3,
    apart: int = 8,
    localiser: int = 20,
) -> Design:
    """Section 2, on this library's U-Net: the level `warped` is bent by points `apart` cells from each other, read by
    `localiser` units. The official code begins with points nearer the border, and counts cells from another corner.
    """
    if not 0 <= warped < len(widths) - 1:
        raise EveryformerError(
            f"a level that is bent is one of 0 to {len(widths) - 2}, beside which the way up passes; given warped={warped}"
        )
    side = image // 2**warped
    points = max(side // apart, 2)
    enter = spec(WarpedPair, stride=2 if warped else 1, grid=(side, side), points=(points, points), hidden=localiser)
    head = spec(UnwarpedUShaped, classes=classes, hidden=widths[-2::-1])
    return design.set(f"backbone.stages.{warped}.enter", enter).set("head", head)


@system(
    "weedsense",
    title="WeedSense: Multi-Task Learning for Weed Segmentation, Height Estimation, and Growth Stage Classification",
    authors="Sarker et al.",
    year=2025,
    arxiv="2508.14486",
    idea="Two paths of convolutions meet in one map, which says what each pixel is, how tall the plant is and how many weeks old.",
    tasks=("segmentation",),
    default="base",
    sizes={"base": {}},
)
def weedsense(
    *,
    classes: int = 17,
    weeks: int = 11,
    image: int = 512,
    channels: int = 3,
    detail: tuple[int, ...] = (64, 64, 128),
    stem: int = 16,
    semantic: tuple[int, ...] = (32, 64, 128),
    depths: tuple[int, ...] = (2, 2, 4),
    ratio: float = 6.0,
    squeeze: float = 0.25,
    scale: float = 1e-5,
    hidden: int = 1024,
    deep: tuple[int, ...] = (0, 1, 2, 3),
    deep_hidden: int = 128,
    width: int = 512,
    heads: int = 8,
    mlp: int = 2048,
    traits: tuple[int, ...] = (1024, 512),
    dropout: float = 0.1,
    trait_dropout: float = 0.3,
) -> Design:
    """The official code, in which plain convolutions are the path of `detail` and universal inverted bottlenecks the `semantic`
    one; `deep` are the levels of the latter that say, in training, what each pixel is. The answer is as fine as the picture.
    """
    rows = [
        spec(Stage, to=to, enter=spec(ConvRow, depth=3 if i else 2, stride=2), blocks=()) for i, to in enumerate(detail)
    ]
    bottlenecks = [
        spec(UniversalBottlenecks, depth=depth, stride=2, ratio=ratio, squeeze=squeeze, scale=scale) for depth in depths
    ]
    enters = ((stem, spec(StemBlock)), *zip(semantic, bottlenecks, strict=True), (semantic[-1], spec(ContextEmbedding)))
    down = [spec(Stage, to=to, enter=enter, blocks=()) for to, enter in enters]
    factors = [4 * 2**level for level in deep]
    block = spec(
        Block,
        mixer=attention(heads),
        feedforward=spec(MLP, hidden=mlp, dropout=dropout),
        residual=spec(PostNorm, dropout=dropout),
    )
    growth = spec(
        FigureAndClass,
        classes=weeks,
        body=spec(Encoder, blocks=(block,)),
        hidden=width,
        widths=traits,
        dropout=trait_dropout,
    )
    pixels = spec(Shuffled, classes=classes, hidden=hidden, factor=2 ** len(detail), dropout=dropout)
    beside = tuple(
        spec(Shuffled, classes=classes, hidden=deep_hidden, inner=factor**2, factor=factor, dropout=dropout)
        for factor in factors
    )
    head = spec(Beside, head=pixels, beside=(growth,), names=("traits",))
    return Design(
        spec(
            Model,
            width=channels,
            embedding=spec(RawPixels, image=image),
            backbone=spec(Bilateral, stages=tuple(down), detail=spec(Pyramid, stages=tuple(rows)), join=spec(Guided)),
            head=spec(DeepMaps, head=head, beside=beside, levels=(*deep, -1)),
        )
    )
