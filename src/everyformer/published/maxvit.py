"""MaxViT (Tu et al., Multi-Axis Vision Transformer, 2022)."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Encoder, StridedBottleneck
from everyformer.contracts import Backbone, Mixer
from everyformer.designs import Design
from everyformer.embeddings import PairStem
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention, InvertedBottleneck, Spread, Windows
from everyformer.models import Model, Normal
from everyformer.norms import BatchNorm, LayerNorm
from everyformer.positions import RelativeGrid
from everyformer.published.bodies import branches, rising
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "maxvit",
    title="MaxViT: Multi-Axis Vision Transformer",
    authors="Tu et al.",
    year=2022,
    arxiv="2204.01697",
    idea="In every block a convolution, attention inside windows, then attention between cells spread over the whole map.",
    tasks=("image-classification",),
    default="tiny",
    sizes={
        "tiny": {"stem": 64, "widths": (64, 128, 256, 512), "depths": (2, 2, 5, 2), "drop_path": 0.2},
        "small": {"stem": 64, "widths": (96, 192, 384, 768), "depths": (2, 2, 5, 2), "drop_path": 0.3},
        "base": {"stem": 64, "widths": (96, 192, 384, 768), "depths": (2, 6, 14, 2), "drop_path": 0.4},
        "large": {"stem": 128, "widths": (128, 256, 512, 1024), "depths": (2, 6, 14, 2), "drop_path": 0.6},
        "xlarge": {"stem": 192, "widths": (192, 384, 768, 1536), "depths": (2, 6, 14, 2), "drop_path": 0.6},
    },
)
def maxvit(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    stem: int = 64,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    depths: tuple[int, ...] = (2, 2, 5, 2),
    head_width: int = 32,
    window: int = 7,
    ratio: float = 4.0,
    drop_path: float = 0.2,
) -> Design:
    """Sections 3.2 and 3.3 and table 1; the first convolution of a stage halves the grid, also in the first stage."""
    same_length(widths=widths, depths=depths)
    norm, batch_norm = spec(LayerNorm), spec(BatchNorm, eps=1e-3)
    shape: dict[str, Any] = {"activation": "gelu_tanh", "eps": 1e-3}
    starts = [sum(depths[:i]) for i in range(len(depths))]
    rates = rising(drop_path, sum(depths))

    def attending(part: type[Mixer], stage: int, rate: float) -> Spec[Backbone]:
        relative = spec(RelativeGrid, window=window)
        attention = spec(Attention, heads=widths[stage] // head_width, positions=relative)
        mlp = spec(MLP, ratio=ratio, activation="gelu_tanh")
        return pre_norm(spec(part, mixer=attention, size=window), mlp, norm, rate)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        convolved = pre_norm(spec(InvertedBottleneck, **shape), None, batch_norm, rate)
        axes = attending(Windows, stage, rate), attending(Spread, stage, rate)
        return spec(Encoder, blocks=(convolved, *axes) if index else axes)

    def more(stage: int) -> dict[str, Any]:
        enter = spec(StridedBottleneck, norm=batch_norm, branches=branches(None, rates[starts[stage]]), **shape)
        return {"to": widths[stage], "enter": enter}

    return Design(
        spec(
            Model,
            width=stem,
            embedding=spec(PairStem, channels=channels, image=image, **shape),
            backbone=pyramid(widths, depths, block, enter=spec(StridedBottleneck), drop_path=drop_path, more=more),
            head=spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm, hidden=True),
            start=spec(Normal),
        )
    )
