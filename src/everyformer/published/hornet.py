"""HorNet (Rao et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import ConvMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import GatedConvolution
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "hornet",
    title="HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions",
    authors="Rao et al.",
    year=2022,
    arxiv="2207.14284",
    idea="Features are multiplied by convolved features again and again, which makes interactions of a high order cheap.",
    tasks=("image-classification",),
    default="tiny",
    sizes={"tiny": {"width": 64}, "small": {"width": 96}, "base": {"width": 128}},
)
def hornet(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    width: int = 64,
    depths: tuple[int, ...] = (2, 3, 18, 2),
    orders: tuple[int, ...] = (2, 3, 4, 5),
    kernel: int = 7,
    ratio: float = 4.0,
    scale: float = 1e-6,
    drop_path: float = 0.2,
    eps: float = 1e-6,
) -> Design:
    """Section 3.2 (HorNet with 7x7 convolutions): the width doubles and the order grows from stage to stage."""
    same_length(depths=depths, orders=orders)
    norm = spec(LayerNorm, eps=eps)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = spec(GatedConvolution, order=orders[stage], kernel=kernel)
        return pre_norm(mixer, spec(MLP, ratio=ratio), norm, rate, scale=scale)

    widths = [width * 2**i for i in range(len(depths))]
    enter = spec(ConvMerging, kernel=2, stride=2, before=norm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path),
            head=spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm),
            start=spec(Normal),
        )
    )
