"""Parts that change each token on its own."""

from everyformer.feedforward.dense import MLP, Gated
from everyformer.feedforward.experts import Experts
from everyformer.feedforward.routers import ExpertChoice, TopK

__all__ = ["MLP", "ExpertChoice", "Experts", "Gated", "TopK"]
