"""ConvNeXt (Liu et al., A ConvNet for the 2020s, 2022)."""

from __future__ import annotations

from everyformer.backbones import ConvMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Chain, Depthwise
from everyformer.models import Model, Normal
from everyformer.norms import Identity, LayerNorm
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "convnext",
    title="A ConvNet for the 2020s",
    authors="Liu et al.",
    year=2022,
    arxiv="2201.03545",
    idea="A convolutional network given the shape of a Swin Transformer: 7x7 convolution of each channel, norm, MLP.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "tiny": {"widths": (96, 192, 384, 768), "depths": (3, 3, 9, 3), "drop_path": 0.1},
        "small": {"widths": (96, 192, 384, 768), "depths": (3, 3, 27, 3), "drop_path": 0.4},
        "base": {"widths": (128, 256, 512, 1024), "depths": (3, 3, 27, 3), "drop_path": 0.5},
        "large": {"widths": (192, 384, 768, 1536), "depths": (3, 3, 27, 3), "drop_path": 0.5},
        "xlarge": {"widths": (256, 512, 1024, 2048), "depths": (3, 3, 27, 3), "drop_path": 0.2, "classes": 21841},
    },
)
def convnext(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    widths: tuple[int, ...] = (96, 192, 384, 768),
    depths: tuple[int, ...] = (3, 3, 9, 3),
    kernel: int = 7,
    ratio: float = 4.0,
    scale: float = 1e-6,
    drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 2 and figure 4; the norm of the head stands behind the mean, with an epsilon of its own."""
    same_length(widths=widths, depths=depths)
    norm = spec(LayerNorm, eps=eps)
    mixer = spec(Chain, mixer=spec(Depthwise, kernel=kernel), norm=norm, feedforward=spec(MLP, ratio=ratio))

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        return pre_norm(mixer, None, spec(Identity), rate, scale=scale)

    enter = spec(ConvMerging, kernel=2, stride=2, before=norm)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=norm),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path),
            head=spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm),
            start=spec(Normal),
        )
    )
