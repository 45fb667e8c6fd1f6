"""A trained model into a smaller or faster one."""

from everyformer.compression.low_rank import LowRank

__all__ = ["LowRank"]
