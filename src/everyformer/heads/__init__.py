"""Parts that turn Tokens into an answer."""

from everyformer.heads.classes import ClassHead
from everyformer.heads.forecast import ForecastHead
from everyformer.heads.pools import AttentionPool, FirstToken, LeadingMean, Mean
from everyformer.heads.tokens import TiedHead, TokenHead

__all__ = [
    "AttentionPool", "ClassHead", "FirstToken", "ForecastHead", "LeadingMean", "Mean", "TiedHead", "TokenHead",
]  # fmt: skip
