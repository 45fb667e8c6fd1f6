"""Parts that change each token on its own."""

from everyformer.feedforward.dense import MLP, Gated
from everyformer.feedforward.experts import Experts
from everyformer.feedforward.kan import FourierKAN, RadialKAN, SineKAN, SplineKAN
from everyformer.feedforward.routers import ExpertChoice, TopK

__all__ = [
    "MLP", "ExpertChoice", "Experts", "FourierKAN", "Gated", "RadialKAN", "SineKAN", "SplineKAN", "TopK",
]  # fmt: skip
