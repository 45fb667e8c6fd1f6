"""Designs that say how far away each pixel is: GLPN (Kim et al., 2022), DPT (Ranftl et al., 2021), and one that learns it from
other views alone (Xiang et al., 2024).
"""

from __future__ import annotations

from everyformer.backbones import Block
from everyformer.designs import Design
from everyformer.heads import DepthByScales, Reassembled, SelectiveFusion
from everyformer.mixers import ConvMLP, LargeKernel
from everyformer.norms import BatchNorm, PreNorm
from everyformer.published.pvt import MIT, segformer
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "glpdepth",
    title="Global-Local Path Networks for Monocular Depth Estimation with Vertical CutDepth",
    authors="Kim et al.",
    year=2022,
    arxiv="2201.07436",
    idea="The Mix Transformer's last map goes up step by step, weighed at each cell against the map of that resolution.",
    tasks=("depth",),
    default="b4",
    sizes={"b4": {"depths": (3, 8, 27, 3)}},
)
@upon(segformer, fixed={"classes": 1}, widths=MIT, depths=(3, 8, 27, 3))
def glpdepth(design: Design, *, hidden: int = 64, max_depth: float = 10.0) -> Design:
    """Section 3: the encoder is SegFormer's, the decoder has 0.66 M parameters."""
    return design.set("head", spec(SelectiveFusion, hidden=hidden, max_depth=max_depth))


@system(
    "dpt",
    title="Vision Transformers for Dense Prediction",
    authors="Ranftl et al.",
    year=2021,
    arxiv="2103.13413",
    idea="Four blocks of a plain ViT reassembled into maps from fine to coarse, then fused by convolutions.",
    tasks=("depth",),
    default="large",
    sizes={
        "base": {"width": 768, "depth": 12, "heads": 12, "levels": (2, 5, 8, 11), "hidden": (96, 192, 384, 768)},
        "large": {},
    },
)
@upon(vit, fixed={"classes": 1}, image=384, width=1024, depth=24, heads=16)
def dpt(
    design: Design,
    *,
    levels: tuple[int, ...] = (5, 11, 17, 23),
    hidden: tuple[int, ...] = (256, 512, 1024, 1024),
    factors: tuple[float, ...] = (4, 2, 1, 0.5),
    fused: int = 256,
) -> Design:
    """Section 3 with the readout "project": the answer is as fine as the picture where a patch has 16 pixels a side."""
    head = spec(Reassembled, hidden=hidden, factors=factors, fused=fused, levels=levels)
    return design.remove("backbone.norm").set("head", head)


@system(
    "lka-monodepth",
    title="Self-supervised Monocular Depth Estimation with Large Kernel Attention",
    authors="Xiang et al.",
    year=2024,
    arxiv="2409.17895",
    idea="Depth learnt from how other views look, by a decoder whose gates see far without leaving the plane, and learned up-sampling.",
    tasks=("depth",),
    default="b1",
    sizes={"b1": {"depths": (2, 2, 2, 2)}},
)
@upon(segformer, fixed={"classes": 1}, widths=MIT)
def lka_monodepth(
    design: Design,
    *,
    hidden: tuple[int, ...] = (256, 128, 64, 32),
    kernel: int = 5,
    spread: int = 7,
    apart: int = 3,
    ratio: float = 4.0,
    nearest: float = 0.1,
    max_depth: float = 100.0,
) -> Design:
    """Train it by `objectives.ViewSynthesis`, the poses of the other views known where the paper has a second network say them.

    The decoder's parts are the paper's, large kernel attention and an up-sampling that is learnt; no code is published, and
    the encoder (here SegFormer's, there HRNet), the widths and that the up-sampling is RAFT's are this library's reading.
    """
    mixer = spec(LargeKernel, kernel=kernel, spread=spread, apart=apart)
    block = spec(
        Block, mixer=mixer, feedforward=spec(ConvMLP, ratio=ratio), residual=spec(PreNorm, norm=spec(BatchNorm))
    )
    return design.set("head", spec(DepthByScales, block=block, hidden=hidden, nearest=nearest, max_depth=max_depth))
