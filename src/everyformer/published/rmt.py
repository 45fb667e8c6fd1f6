"""RMT (Fan et al., 2024)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import ConvMerging, Encoder
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import StridedStem
from everyformer.heads import WideHead
from everyformer.mixers import AddingConvMLP, AxialEnhancedAttention, EnhancedAttention
from everyformer.models import Model, Normal
from everyformer.norms import BatchNorm, LayerNorm
from everyformer.positions import ManhattanDecay
from everyformer.published.pvt import conditional
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "rmt",
    title="RMT: Retentive Networks Meet Vision Transformers",
    authors="Fan et al.",
    year=2024,
    arxiv="2309.11523",
    idea="Attention whose weights fall with the distance along rows and columns, and works along each in turn on fine grids.",
    tasks=("image-classification",),
    default="small",
    sizes={
        "tiny": {"depths": (2, 2, 8, 2), "ratios": (3.0,) * 4, "axial": 2, "drop_path": 0.1},
        "small": {},
        "base": {
            "widths": (80, 160, 320, 512), "depths": (4, 8, 25, 8), "heads": (5, 5, 10, 16),
            "reaches": (5.0, 5.0, 6.0, 6.0), "scales": (None, None, 1e-6, 1e-6), "drop_path": 0.4,
        },
        "large": {
            "widths": (112, 224, 448, 640), "depths": (4, 8, 25, 8), "heads": (7, 7, 14, 20),
            "reaches": (6.0,) * 4, "scales": (None, None, 1e-6, 1e-6), "drop_path": 0.5,
        },
    },
)  # fmt: skip
def rmt(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    depths: tuple[int, ...] = (3, 4, 18, 4),
    heads: tuple[int, ...] = (4, 4, 8, 16),
    ratios: tuple[float, ...] = (4.0, 4.0, 3.0, 3.0),
    near: float = 2.0,
    reaches: tuple[float, ...] = (4.0, 4.0, 6.0, 6.0),
    scales: tuple[float | None, ...] = (None,) * 4,
    axial: int = 3,
    hidden: int = 1024,
    drop_path: float = 0.15,
    eps: float = 1e-6,
) -> Design:
    """Section 3 and table 1: the first `axial` stages attend along rows and columns, the others to the whole map.

    `near` and `reaches` are those of the decay, `scales` where LayerScale starts.
    """
    same_length(widths=widths, depths=depths, heads=heads, ratios=ratios, reaches=reaches, scales=scales)
    norm, batch_norm = spec(LayerNorm, eps=eps), spec(BatchNorm)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        decay = spec(ManhattanDecay, near=near, reach=reaches[stage])
        part = AxialEnhancedAttention if stage < axial else EnhancedAttention
        mixer: Spec[Any] = spec(part, heads=heads[stage], positions=decay)
        mlp = spec(AddingConvMLP, ratio=ratios[stage], before="gelu", activation="linear")
        return spec(Encoder, blocks=(conditional(), pre_norm(mixer, mlp, norm, rate, scale=scales[stage])))

    enter = spec(ConvMerging, kernel=3, stride=2, padding=1, norm=batch_norm)
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(StridedStem, channels=channels, image=image),
            backbone=pyramid(widths, depths, block, enter=enter, drop_path=drop_path),
            head=spec(WideHead, classes=classes, hidden=hidden, norm=batch_norm),
            start=spec(Normal),
        )
    )
