"""Blocks and the bodies made of them."""

from everyformer.backbones.blocks import Block, ParallelBlock
from everyformer.backbones.stacks import Decoder, Encoder

__all__ = ["Block", "Decoder", "Encoder", "ParallelBlock"]
