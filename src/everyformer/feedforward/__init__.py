"""Parts that change each token on its own."""

from everyformer.feedforward.dense import MLP, Gated

__all__ = ["MLP", "Gated"]
