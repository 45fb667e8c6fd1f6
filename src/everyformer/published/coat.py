"""CoaT (Xu et al., Co-Scale Conv-Attentional Image Transformers, 2021)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, CoScale, Encoder, LeavingMerging, ScaleLayer, SharingStage
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, FirstToken, LeadingMix
from everyformer.mixers import Depthwise, FactorAttention
from everyformer.models import Model, Normal
from everyformer.norms import Identity, LayerNorm, PreNorm
from everyformer.published.bodies import branches
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec

LITE = (8.0, 8.0, 4.0, 4.0)


@system(
    "coat",
    title="Co-Scale Conv-Attentional Image Transformers",
    authors="Xu et al.",
    year=2021,
    arxiv="2104.06399",
    idea="Attention of linear cost whose positions are convolutions, and scales that tell each other what they saw.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "lite-tiny": {"widths": (64, 128, 256, 320), "layers": 0, "ratios": LITE},
        "lite-mini": {"widths": (64, 128, 320, 512), "layers": 0, "ratios": LITE},
        "lite-small": {"widths": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "layers": 0, "ratios": LITE},
        "lite-medium": {"widths": (128, 256, 320, 512), "depths": (3, 6, 10, 8), "layers": 0},
        "tiny": {"widths": (152, 152, 152, 152)},
        "mini": {"widths": (152, 216, 216, 216)},
        "small": {"widths": (152, 320, 320, 320)},
    },
)
def coat(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    widths: tuple[int, ...] = (152, 152, 152, 152),
    depths: tuple[int, ...] = (2, 2, 2, 2),
    layers: int = 6,
    heads: int = 8,
    windows: tuple[tuple[int, int], ...] = ((3, 2), (5, 3), (7, 3)),
    ratios: tuple[float, ...] = (4.0, 4.0, 4.0, 4.0),
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Sections 3 and 4 and table 1: blocks of a stage share both their convolutions; without `layers` it is CoaT-Lite.

    The official code has the same rate of stochastic depth in all layers.
    """
    same_length(widths=widths, depths=depths, ratios=ratios)
    norm, edge = spec(LayerNorm, eps=eps), spec(LayerNorm)
    mixer = spec(FactorAttention, heads=heads, windows=windows)
    near = spec(Block, mixer=spec(Depthwise), feedforward=None, residual=spec(PreNorm, norm=spec(Identity)))
    shared = "blocks.0", "blocks.1.mixer.relative"

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        return spec(Encoder, blocks=(near, pre_norm(mixer, spec(MLP, ratio=ratios[stage]), norm, drop_path)))

    def more(stage: int) -> dict[str, Any]:
        return {"first": 1, "shared": shared}

    enter = spec(LeavingMerging, kernel=2, norm=edge)
    stages = pyramid(widths, depths, block, enter=enter, norm=norm, more=more, part=SharingStage)
    layer = spec(
        ScaleLayer, before=near, mixer=mixer, feedforward=spec(MLP, ratio=ratios[-1]),
        norm=norm, branches=branches(None, drop_path),
        residual=spec(PreNorm, norm=norm, branches=branches(None, drop_path)),
    )  # fmt: skip
    across = spec(
        CoScale, stages=stages.get("stages"), layers=(layer,) * layers, norm=norm,
        shared=(("before.*", "blocks.0.blocks.0"), ("mixer.*.relative", "blocks.0.blocks.1.mixer.relative")),
    )  # fmt: skip
    pool = spec(LeadingMix, count=len(widths) - 1) if layers else spec(FirstToken)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(Patches, patch=patch, channels=channels, image=image, norm=edge),
            backbone=across if layers else stages,
            head=spec(ClassHead, classes=classes, pool=pool),
            start=spec(Normal),
        )
    )
