"""Parts that turn Tokens into an update of each token from the others."""

from everyformer.mixers.attention import Attention, CrossAttention
from everyformer.mixers.bigbird import BigBirdAttention
from everyformer.mixers.marked import GlobalLocal, LongformerAttention
from everyformer.mixers.multiresolution import MultiResolution
from everyformer.mixers.nystrom import NystromAttention

__all__ = [
    "Attention", "BigBirdAttention", "CrossAttention", "GlobalLocal", "LongformerAttention", "MultiResolution",
    "NystromAttention",
]  # fmt: skip
