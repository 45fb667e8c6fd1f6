"""Parts that turn Tokens into an answer."""

from everyformer.heads.beside import Beside
from everyformer.heads.classes import ClassHead, MLPHead, PoolHead, WideHead
from everyformer.heads.clusters import ClusterQueries, SoftClusterQueries
from everyformer.heads.codes import CodePredictor, ProductQuantizer
from everyformer.heads.compatible import BasisTransforms
from everyformer.heads.depths import DepthByScales, Reassembled, ReassembledClasses, SelectiveFusion
from everyformer.heads.distilled import DistilledHead
from everyformer.heads.distributions import NegativeBinomialHead, NormalHead, StudentTHead
from everyformer.heads.experts import ExpertClasses
from everyformer.heads.forecast import ForecastHead, StepHead
from everyformer.heads.future import FutureHead
from everyformer.heads.heat import HeatQueries
from everyformer.heads.interactions import Interactions
from everyformer.heads.maps import (
    AttentiveDecoder,
    LinearDecoder,
    MaskTransformer,
    MixedLevels,
    MLPDecoder,
    PlainUPerHead,
    UnwarpedUShaped,
    UPerHead,
    UShaped,
)
from everyformer.heads.masks import LevelQueries, MaskedQueries, MaskedStates, MaskQueries
from everyformer.heads.pixels import LevelsTogether, Pixels
from everyformer.heads.pools import (
    AttentionPool,
    FirstAndMean,
    FirstToken,
    Largest,
    LastToken,
    LeadingMean,
    LeadingMix,
    Mean,
)
from everyformer.heads.probes import ProbePool, WordsBeside
from everyformer.heads.proposals import CenterProposals, Looking, Proposals, RegionMLP
from everyformer.heads.queries import BoxQueries, ClassQueries, Queries
from everyformer.heads.rebuilt import MeanOfLevels, Rebuilt
from everyformer.heads.regions import Regions
from everyformer.heads.replayed import ContextReplay
from everyformer.heads.slots import LearnedSlots, SlotAttention, SlotMasks
from everyformer.heads.spans import SpanHead, answers, spans
from everyformer.heads.speakers import XVector
from everyformer.heads.tokens import CellHead, Narrow, Refined, TiedHead, TokenHead, Transform
from everyformer.heads.traits import DeepMaps, FigureAndClass, Shuffled
from everyformer.heads.upsampling import Bilinear, Convex, Upsampling, convex

__all__ = [
    "AttentionPool", "AttentiveDecoder", "BasisTransforms", "Beside", "Bilinear", "BoxQueries", "CellHead", "CenterProposals",
    "ClassHead", "ClassQueries", "ClusterQueries", "CodePredictor", "ContextReplay", "Convex", "DeepMaps",
    "DepthByScales", "DistilledHead", "ExpertClasses", "FigureAndClass", "FirstAndMean", "FirstToken", "ForecastHead",
    "FutureHead", "HeatQueries", "Interactions", "Largest", "LastToken", "LeadingMean", "LeadingMix", "LearnedSlots",
    "LevelQueries", "LevelsTogether", "LinearDecoder", "Looking", "MLPDecoder", "MLPHead", "MaskQueries", "MaskTransformer",
    "MaskedQueries", "MaskedStates", "Mean", "MeanOfLevels", "MixedLevels", "Narrow", "NegativeBinomialHead",
    "NormalHead", "Pixels", "PlainUPerHead", "PoolHead", "ProbePool", "ProductQuantizer", "Proposals", "Queries", "Reassembled",
    "ReassembledClasses", "Rebuilt", "Refined", "RegionMLP", "Regions", "SelectiveFusion", "Shuffled", "SlotAttention", "SlotMasks",
    "SoftClusterQueries", "SpanHead", "StepHead", "StudentTHead", "TiedHead", "TokenHead", "Transform", "UPerHead",
    "UShaped", "UnwarpedUShaped", "Upsampling", "WideHead", "WordsBeside", "XVector", "answers", "convex", "spans",
]  # fmt: skip
