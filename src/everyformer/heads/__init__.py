"""Parts that turn Tokens into an answer."""

from everyformer.heads.classes import ClassHead, MLPHead, PoolHead, WideHead
from everyformer.heads.depths import Reassembled, SelectiveFusion
from everyformer.heads.distilled import DistilledHead
from everyformer.heads.forecast import ForecastHead
from everyformer.heads.maps import AttentiveDecoder, LinearDecoder, MaskTransformer, MLPDecoder, UPerHead, UShaped
from everyformer.heads.pools import AttentionPool, FirstAndMean, FirstToken, LastToken, LeadingMean, LeadingMix, Mean
from everyformer.heads.probes import ProbePool, WordsBeside
from everyformer.heads.queries import BoxQueries, MaskQueries
from everyformer.heads.tokens import CellHead, Narrow, TiedHead, TokenHead, Transform

__all__ = [
    "AttentionPool", "AttentiveDecoder", "BoxQueries", "CellHead", "ClassHead", "DistilledHead", "FirstAndMean", "FirstToken", "ForecastHead",
    "LastToken", "LeadingMean", "LeadingMix", "LinearDecoder", "MLPDecoder", "MLPHead", "MaskQueries", "MaskTransformer", "Mean",
    "Narrow", "PoolHead", "ProbePool", "Reassembled", "SelectiveFusion", "TiedHead", "TokenHead", "Transform",
    "UPerHead", "UShaped", "WideHead", "WordsBeside",
]  # fmt: skip
