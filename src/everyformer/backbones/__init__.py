"""Blocks and the bodies made of them."""

from everyformer.backbones.blocks import Block, ParallelBlock
from everyformer.backbones.branched import BranchedBlock
from everyformer.backbones.chunks import Chunked, DynamicChunks, FixedChunks
from everyformer.backbones.classes import Apart, ClassBlock, PassingClassBlock
from everyformer.backbones.convolutional import Bottlenecks, ConvPair, StandardBottlenecks
from everyformer.backbones.deformable import DeformableMerging
from everyformer.backbones.depth import DepthWeighted, Fused
from everyformer.backbones.elastic import Elastic
from everyformer.backbones.folding import fold
from everyformer.backbones.loops import AdaptiveLoop, Injection, Loop, TurnSignal
from everyformer.backbones.maps import Project
from everyformer.backbones.multiscale import Multiscale
from everyformer.backbones.pooled import QueryPooling
from everyformer.backbones.pyramids import Pyramid, Stage
from everyformer.backbones.sharing import CoScale, ScaleLayer, SharingStage
from everyformer.backbones.stacks import Decoder, Encoder
from everyformer.backbones.transitions import (
    ConvMerging,
    DepthwiseMerging,
    LeavingMerging,
    MeanMerging,
    PatchMerging,
    ResidualMerging,
    StridedBottleneck,
)
from everyformer.backbones.words import Sentences, WordBlock

__all__ = [
    "AdaptiveLoop", "Apart", "Block", "Bottlenecks", "BranchedBlock", "Chunked", "ClassBlock", "CoScale",
    "ConvMerging", "ConvPair", "Decoder", "DeformableMerging", "DepthWeighted", "DepthwiseMerging", "DynamicChunks", "Elastic", "Encoder",
    "FixedChunks", "Fused", "Injection", "LeavingMerging", "Loop", "MeanMerging", "Multiscale", "ParallelBlock", "PassingClassBlock",
    "PatchMerging", "Project", "Pyramid", "QueryPooling", "ResidualMerging", "ScaleLayer", "Sentences", "SharingStage", "Stage",
    "StandardBottlenecks", "StridedBottleneck", "TurnSignal", "WordBlock", "fold",
]  # fmt: skip
