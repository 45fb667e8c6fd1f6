"""Parts that normalise values, and that say how a residual is added."""

from everyformer.norms.adaptive import AdaptivePreNorm
from everyformer.norms.arrangements import PostNorm, PreNorm, Replacement, SandwichNorm, TrunkNorm, UpdateNorm
from everyformer.norms.branches import LayerScale, StochasticDepth
from everyformer.norms.normalisers import Identity, LayerNorm, RMSNorm, SampleNorm
from everyformer.norms.reversible import ReversibleInstance
from everyformer.norms.unified import UnifiedNorm

__all__ = [
    "AdaptivePreNorm", "Identity", "LayerNorm", "LayerScale", "PostNorm", "PreNorm", "RMSNorm", "Replacement",
    "ReversibleInstance", "SampleNorm", "SandwichNorm", "StochasticDepth", "TrunkNorm", "UnifiedNorm", "UpdateNorm",
]  # fmt: skip
