"""Parts that turn Tokens into an update of each token from the others."""

from everyformer.mixers.attention import Attention, CrossAttention
from everyformer.mixers.bigbird import BigBirdAttention
from everyformer.mixers.combiner import CombinerAttention
from everyformer.mixers.lean import lean_attention
from everyformer.mixers.marked import GlobalLocal, LongformerAttention
from everyformer.mixers.multiresolution import MultiResolution
from everyformer.mixers.nystrom import NystromAttention
from everyformer.mixers.segments import SegmentAttention

__all__ = [
    "Attention", "BigBirdAttention", "CombinerAttention", "CrossAttention", "GlobalLocal", "LongformerAttention", "MultiResolution",
    "NystromAttention", "SegmentAttention", "lean_attention",
]  # fmt: skip
