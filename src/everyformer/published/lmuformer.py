"""LMUFormer (Liu et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import FrameConvs, SpikingFrameConvs
from everyformer.feedforward import NormedMLP
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import LegendreMemory, SpikingLegendreMemory, SpikingMLP
from everyformer.models import Model
from everyformer.norms import BatchNorm, Identity, PreNorm, UpdateNorm
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import Spec, spec

SIZES = {
    "digits": {"classes": 10, "mels": 40, "frames": 80, "width": 64, "window": 80},
    "speech-commands": {"width": 256},
}
"""'digits' is a compact size of this library for one second of speech."""


@system(
    "lmuformer",
    title="LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units",
    authors="Liu et al.",
    year=2024,
    arxiv="2402.04882",
    idea="A Legendre memory, one fixed linear recurrence, stands in for attention: trained in parallel, used step by step.",
    tasks=("audio-classification",),
    default="speech-commands",
    sizes=SIZES,
)
def lmuformer(
    *,
    classes: int = 35,
    mels: int = 128,
    frames: int = 128,
    width: int = 256,
    depth: int = 1,
    ratio: float = 4.0,
    convs: int = 4,
    window: float = 128.0,
    dropout: float = 0.0,
) -> Design:
    """Section 3.1: convolutions, then blocks without norms before them; the classes are the mean over time."""
    norm = spec(BatchNorm)
    block = spec(
        Block,
        mixer=spec(LegendreMemory, window=window),
        feedforward=spec(NormedMLP, norm=norm, ratio=ratio),
        residual=(spec(UpdateNorm, norm=norm), spec(PreNorm, norm=spec(Identity))),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(FrameConvs, mels=mels, frames=frames, convs=convs, dropout=dropout),
            backbone=spec(Encoder, blocks=(block,) * depth),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
        )
    )


@system(
    "spiking-lmuformer",
    title="LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units",
    authors="Liu et al.",
    year=2024,
    arxiv="2402.04882",
    idea="The Legendre memory with spiking neurons, for which a token is a time step: all that is handed on is 0 or 1.",
    tasks=("audio-classification",),
    default="speech-commands",
    sizes=SIZES,
)
@upon(lmuformer)
def spiking_lmuformer(design: Design, *, ratio: float = 4.0, window: float = 128.0) -> Design:
    """Section 3.2."""
    block = spec(
        Block,
        mixer=spec(SpikingLegendreMemory, window=window),
        feedforward=spec(SpikingMLP, ratio=ratio),
        residual=spec(PreNorm, norm=spec(Identity)),
    )
    made = design.swap("embedding", lambda whole: Spec(SpikingFrameConvs, whole.options))
    return made.set("backbone.blocks", (block,) * len(design.get("backbone.blocks")))
