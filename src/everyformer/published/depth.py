"""Designs that say how far away each pixel is: GLPN (Kim et al., 2022) and DPT (Ranftl et al., 2021)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import Reassembled, SelectiveFusion
from everyformer.published.pvt import MIT, REDUCTIONS, segformer
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
def glpdepth(
    *,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = MIT,
    depths: tuple[int, ...] = (3, 8, 27, 3),
    heads: tuple[int, ...] = (1, 2, 5, 8),
    ratio: float = 4.0,
    reductions: tuple[int, ...] = REDUCTIONS,
    hidden: int = 64,
    max_depth: float = 10.0,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3: the encoder is SegFormer's, the decoder has 0.66 M parameters."""
    body = segformer(
        image=image, channels=channels, widths=widths, depths=depths, heads=heads, ratio=ratio, reductions=reductions,
        dropout=dropout, attention_dropout=attention_dropout, drop_path=drop_path, eps=eps,
    )  # fmt: skip
    return body.set("head", spec(SelectiveFusion, hidden=hidden, max_depth=max_depth))


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
def dpt(
    *,
    image: int = 384,
    patch: int = 16,
    channels: int = 3,
    width: int = 1024,
    depth: int = 24,
    heads: int = 16,
    ratio: float = 4.0,
    levels: tuple[int, ...] = (5, 11, 17, 23),
    hidden: tuple[int, ...] = (256, 512, 1024, 1024),
    factors: tuple[float, ...] = (4, 2, 1, 0.5),
    fused: int = 256,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3 with the readout "project": the answer is as fine as the picture where a patch has 16 pixels a side."""
    body = vit(
        image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads, ratio=ratio,
        qkv_bias=qkv_bias, dropout=dropout, eps=eps,
    )  # fmt: skip
    head = spec(Reassembled, hidden=hidden, factors=factors, fused=fused, levels=levels)
    return body.remove("backbone.norm").set("head", head)
