"""I3D (Peng et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder, Skipping
from everyformer.designs import Design
from everyformer.embeddings import SpectrogramConvs
from everyformer.feedforward import MLP, SampleGate
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Sinusoidal
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "i3d",
    title="I3D: Transformer architectures with input-dependent dynamic depth for speech recognition",
    authors="Peng et al.",
    year=2023,
    arxiv="2303.07624",
    idea="Small gates decide for every utterance which attention and which feedforward layers of a deep encoder run.",
    tasks=("audio-classification",),
    default="36",
    sizes={
        "digits": {"mels": 40, "frames": 80, "width": 64, "hidden": 128, "depth": 6, "heads": 4},
        "36": {"width": 256, "hidden": 2048, "depth": 36, "heads": 4},
    },
)
def i3d(
    *,
    classes: int = 10,
    mels: int = 80,
    frames: int = 1000,
    width: int = 256,
    hidden: int = 2048,
    depth: int = 36,
    heads: int = 4,
    whole: bool = False,
    gate_hidden: int = 32,
    threshold: float = 0.5,
    cost: float = 0.1,
    dropout: float = 0.1,
) -> Design:
    """Section 2.2, as a classifier of sounds. Each layer has a gate for its two halves (LocalGate); `whole` has one gate,
    before the first layer, for those of all (GlobalGate). `cost` weighs the share of the layers that run.
    """
    residual = spec(PreNorm, dropout=dropout)
    attend = spec(Block, mixer=spec(Attention, heads=heads), feedforward=None, residual=residual)
    feed = spec(Block, mixer=None, feedforward=spec(MLP, hidden=hidden, activation="relu"), residual=residual)
    halves = (attend, feed) * depth if whole else (attend, feed)
    parts = 1 if whole else depth
    gate = spec(SampleGate, hidden=gate_hidden, threshold=threshold, cost=cost / parts)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(SpectrogramConvs, mels=mels, frames=frames, positions=spec(Sinusoidal), dropout=dropout),
            backbone=spec(Encoder, blocks=(spec(Skipping, blocks=halves, router=gate),) * parts, norm=spec(LayerNorm)),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Xavier),
        )
    )
