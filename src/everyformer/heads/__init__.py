"""Parts that turn Tokens into an answer."""

from everyformer.heads.classes import ClassHead, PoolHead
from everyformer.heads.forecast import ForecastHead
from everyformer.heads.pools import AttentionPool, FirstToken, LastToken, LeadingMean, Mean
from everyformer.heads.tokens import TiedHead, TokenHead

__all__ = [
    "AttentionPool", "ClassHead", "FirstToken", "ForecastHead", "LastToken", "LeadingMean", "Mean", "PoolHead", "TiedHead",
    "TokenHead",
]  # fmt: skip
