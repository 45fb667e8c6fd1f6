"""Whole models: what stands at the root of a design."""

from everyformer.models.branches import TwoBranches
from everyformer.models.cascade import Cascade, thresholds_for
from everyformer.models.deep_scale import DeepScale
from everyformer.models.described import Described
from everyformer.models.detecting import Detecting
from everyformer.models.domains import domain_experts
from everyformer.models.drawing import DrawingForecaster
from everyformer.models.encoders import encoder_of
from everyformer.models.fixed import FixedBody
from everyformer.models.forecaster import Forecaster
from everyformer.models.long_source import LongSource, pruning_unlimiformer, unlimiformer
from everyformer.models.masked import MaskedAutoencoder
from everyformer.models.model import Model
from everyformer.models.parallel import ParallelSeq2Seq
from everyformer.models.prefixed import Prefixed
from everyformer.models.residual_memory import ResidualMemory, residual_memory
from everyformer.models.scaling import DeviationScale, MeanScale, NoScale
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.sources import MultiSource
from everyformer.models.starts import ByWidth, FanIn, Normal, Torch, Xavier
from everyformer.models.towers import BiasedTowers, TwoTowers
from everyformer.models.two_decoders import TwoDecoders
from everyformer.models.unpadded import Unpadded, unpadded
from everyformer.models.visual import frozen_glyphs
from everyformer.models.warm import SharedSeq2Seq, bert2bert, parallel_seq2seq
from everyformer.models.windows import WindowRecurrent, window_recurrence

__all__ = [
    "BiasedTowers", "ByWidth", "Cascade", "DeepScale", "Described", "Detecting", "DeviationScale", "DrawingForecaster", "FanIn", "FixedBody",
    "Forecaster", "LongSource", "MaskedAutoencoder", "MeanScale", "Model", "MultiSource", "NoScale", "Normal",
    "ParallelSeq2Seq", "Prefixed", "ResidualMemory", "Seq2Seq", "SharedSeq2Seq", "Torch", "TwoBranches", "TwoDecoders",
    "TwoTowers", "Unpadded", "WindowRecurrent", "Xavier", "bert2bert", "domain_experts", "encoder_of", "frozen_glyphs",
    "parallel_seq2seq", "pruning_unlimiformer", "residual_memory", "thresholds_for", "unlimiformer", "unpadded",
    "window_recurrence",
]  # fmt: skip
