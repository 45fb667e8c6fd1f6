"""Parts that turn the scores of attention into weights: normalisers, steps around them, keys and values beside the tokens'."""

from everyformer.scores.gaussian import GaussianMixture
from everyformer.scores.normalisers import Clipped, Entmax, Power, ReLU, Sigmoid, Sink, Sparsemax, TopK
from everyformer.scores.noted import Noted
from everyformer.scores.relayed import Relayed
from everyformer.scores.slots import Persistent
from everyformer.scores.steps import (
    Added,
    HandedOn,
    HeadMLP,
    KeyBias,
    LengthScale,
    LogRounded,
    MixScores,
    MixWeights,
    SoftCap,
)
from everyformer.scores.toeplitz import DistanceFactors

__all__ = [
    "Added", "Clipped", "DistanceFactors", "Entmax", "GaussianMixture", "HandedOn", "HeadMLP", "KeyBias",
    "LengthScale", "LogRounded", "MixScores", "MixWeights", "Noted", "Persistent", "Power", "ReLU", "Relayed",
    "Sigmoid", "Sink", "SoftCap", "Sparsemax", "TopK",
]  # fmt: skip
