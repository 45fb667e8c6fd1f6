"""Whole models: what stands at the root of a design."""

from everyformer.models.branches import TwoBranches
from everyformer.models.cascade import Cascade, thresholds_for
from everyformer.models.long_source import LongSource, unlimiformer
from everyformer.models.masked import MaskedAutoencoder
from everyformer.models.model import Model
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.starts import FanIn, Normal, Torch, Xavier
from everyformer.models.towers import TwoTowers

__all__ = [
    "Cascade", "FanIn", "LongSource", "MaskedAutoencoder", "Model", "Normal", "Seq2Seq", "Torch", "TwoBranches", "TwoTowers", "Xavier",
    "thresholds_for", "unlimiformer",
]  # fmt: skip
