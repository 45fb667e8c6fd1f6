"""Parts that turn Tokens into an update of each token from the others."""

from everyformer.mixers.attention import Attention, CrossAttention

__all__ = ["Attention", "CrossAttention"]
