"""Parts that turn Tokens into an answer."""

from everyformer.heads.beside import Beside
from everyformer.heads.classes import ClassHead, MLPHead, PoolHead
from everyformer.heads.compatible import BasisTransforms
from everyformer.heads.depths import Reassembled, ReassembledClasses, SelectiveFusion
from everyformer.heads.distilled import DistilledHead
from everyformer.heads.forecast import ForecastHead, StepHead
from everyformer.heads.future import FutureHead
from everyformer.heads.maps import LinearDecoder, MaskTransformer, MLPDecoder, UPerHead, UShaped
from everyformer.heads.pools import AttentionPool, FirstAndMean, FirstToken, LastToken, LeadingMean, LeadingMix, Mean
from everyformer.heads.probes import ProbePool, WordsBeside
from everyformer.heads.queries import BoxQueries, MaskQueries
from everyformer.heads.tokens import CellHead, Narrow, Refined, TiedHead, TokenHead, Transform

__all__ = [
    "AttentionPool", "BasisTransforms", "Beside", "BoxQueries", "CellHead", "ClassHead", "DistilledHead",
    "FirstAndMean", "FirstToken", "ForecastHead", "FutureHead", "LastToken", "LeadingMean", "LeadingMix",
    "LinearDecoder", "MLPDecoder", "MLPHead", "MaskQueries", "MaskTransformer", "Mean", "Narrow", "PoolHead",
    "ProbePool", "Reassembled", "ReassembledClasses", "Refined", "SelectiveFusion", "StepHead", "TiedHead",
    "TokenHead", "Transform", "UPerHead", "UShaped", "WordsBeside",
]  # fmt: skip
