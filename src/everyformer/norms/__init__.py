"""Parts that normalise values, and that say how a residual is added."""

from everyformer.norms.adaptive import AdaptivePreNorm
from everyformer.norms.arrangements import (
    NormedReplacement,
    PostNorm,
    PreNorm,
    Replacement,
    SandwichNorm,
    ScaledPreNorm,
    TrunkNorm,
    UpdateNorm,
)
from everyformer.norms.branches import LayerScale, StochasticDepth
from everyformer.norms.normalisers import BatchNorm, Identity, LayerNorm, RMSNorm, SampleNorm
from everyformer.norms.reversible import ReversibleInstance
from everyformer.norms.unified import UnifiedNorm
from everyformer.norms.unit import UnitPostNorm, UnitPreNorm

__all__ = [
    "AdaptivePreNorm", "BatchNorm", "Identity", "LayerNorm", "LayerScale", "NormedReplacement", "PostNorm", "PreNorm",
    "RMSNorm", "Replacement", "ReversibleInstance", "SampleNorm", "SandwichNorm", "ScaledPreNorm", "StochasticDepth",
    "TrunkNorm", "UnifiedNorm", "UnitPostNorm", "UnitPreNorm", "UpdateNorm",
]  # fmt: skip
