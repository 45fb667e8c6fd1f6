"""Parts that turn the scores of attention into weights: normalisers, steps around them, keys and values beside the tokens'."""

from everyformer.scores.gaussian import GaussianMixture
from everyformer.scores.normalisers import Clipped, Entmax, Power, ReLU, Sigmoid, Sink, Sparsemax
from everyformer.scores.relayed import Relayed
from everyformer.scores.slots import Persistent
from everyformer.scores.steps import HandedOn, KeyBias, LengthScale, MixScores, MixWeights, SoftCap
from everyformer.scores.toeplitz import DistanceFactors

__all__ = [
    "Clipped", "DistanceFactors", "Entmax", "GaussianMixture", "HandedOn", "KeyBias", "LengthScale", "MixScores", "MixWeights", "Persistent",
    "Power", "Relayed", "ReLU", "Sigmoid", "Sink", "SoftCap", "Sparsemax",
]  # fmt: skip
