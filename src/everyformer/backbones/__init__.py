"""Blocks and the bodies made of them."""

from everyformer.backbones.aspect import widened
from everyformer.backbones.bilateral import Added, Bilateral, ContextEmbedding, ConvRow, Guided, StemBlock
from everyformer.backbones.blocks import Block, ParallelBlock
from everyformer.backbones.branched import BranchedBlock
from everyformer.backbones.chunks import Chunked, DynamicChunks, FixedChunks, MarkedChunks
from everyformer.backbones.classes import Apart, ClassBlock, PassingClassBlock
from everyformer.backbones.convolutional import Bottlenecks, ConvPair, StandardBottlenecks, WarpedPair
from everyformer.backbones.deformable import DeformableMerging
from everyformer.backbones.depth import DepthWeighted, Fused
from everyformer.backbones.distilling import Distilling
from everyformer.backbones.elastic import Elastic
from everyformer.backbones.exits import ChosenDepth
from everyformer.backbones.first_scores import FirstScores
from everyformer.backbones.folding import fold
from everyformer.backbones.halting import HaltingEncoder
from everyformer.backbones.interleaved import Interleaved, Round
from everyformer.backbones.landmarks import Landmarks, Summaries
from everyformer.backbones.latent import FreeLatent, PairedBlock
from everyformer.backbones.learngene import LinearExpansion
from everyformer.backbones.levels import SimplePyramid
from everyformer.backbones.loops import AdaptiveLoop, Injection, Loop, TurnSignal
from everyformer.backbones.maps import Project
from everyformer.backbones.multiscale import Multiscale
from everyformer.backbones.pervasive import Pervasive
from everyformer.backbones.pooled import QueryPooling
from everyformer.backbones.prioritised import PrioritisedBlock, vcc
from everyformer.backbones.pyramids import Pyramid, RememberingStage, Stage
from everyformer.backbones.remembering import Bank, ClassBank, Remembering, keeping
from everyformer.backbones.reversible import Reversible, ReversibleBlock
from everyformer.backbones.sharing import CoScale, ScaleLayer, SharingStage
from everyformer.backbones.skipping import Skipping
from everyformer.backbones.spelled import Spelled
from everyformer.backbones.stacks import Decoder, Encoder
from everyformer.backbones.summed import Summed
from everyformer.backbones.transitions import (
    ConvMerging,
    DepthwiseMerging,
    LeavingMerging,
    MeanMerging,
    PatchMerging,
    ResidualMerging,
    StridedBottleneck,
    Thinning,
)
from everyformer.backbones.universal import UniversalBottlenecks
from everyformer.backbones.words import Sentences, WordBlock

__all__ = [
    "AdaptiveLoop", "Added", "Apart", "Bank", "Bilateral", "Block", "Bottlenecks", "BranchedBlock", "ChosenDepth",
    "Chunked", "ClassBank", "ClassBlock", "CoScale", "ContextEmbedding", "ConvMerging", "ConvPair", "ConvRow",
    "Decoder", "DeformableMerging", "DepthWeighted", "DepthwiseMerging", "Distilling", "DynamicChunks", "Elastic",
    "Encoder", "FirstScores", "FixedChunks", "FreeLatent", "Fused", "Guided", "HaltingEncoder", "Injection",
    "Interleaved", "Landmarks", "LeavingMerging", "LinearExpansion", "Loop", "MarkedChunks", "MeanMerging",
    "Multiscale", "PairedBlock", "ParallelBlock", "PassingClassBlock", "PatchMerging", "Pervasive",
    "PrioritisedBlock", "Project", "Pyramid", "QueryPooling", "Remembering", "RememberingStage", "ResidualMerging",
    "Reversible", "ReversibleBlock", "Round", "ScaleLayer", "Sentences", "SharingStage", "SimplePyramid", "Skipping",
    "Spelled", "Stage", "StandardBottlenecks", "StemBlock", "StridedBottleneck", "Summaries", "Summed", "Thinning",
    "TurnSignal", "UniversalBottlenecks", "WarpedPair", "WordBlock", "fold", "keeping", "vcc", "widened",
]  # fmt: skip
