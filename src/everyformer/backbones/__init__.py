"""Blocks and the bodies made of them."""

from everyformer.backbones.blocks import Block, ParallelBlock
from everyformer.backbones.depth import DepthWeighted, Fused
from everyformer.backbones.loops import AdaptiveLoop, Injection, Loop, TurnSignal
from everyformer.backbones.maps import Project
from everyformer.backbones.stacks import Decoder, Encoder

__all__ = [
    "AdaptiveLoop", "Block", "Decoder", "DepthWeighted", "Encoder", "Fused", "Injection", "Loop", "ParallelBlock",
    "Project", "TurnSignal",
]  # fmt: skip
