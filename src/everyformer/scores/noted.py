"""Weights that a pass keeps for its answer."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from everyformer.contracts import Scored, ScoreStep
from everyformer.registry import part


@part("scores")
class Noted(ScoreStep):
    """Changes nothing, and notes the mean of the weights over the heads, (B, N, M), under `name`, where somebody asks for
    notes: so where attention looked can be an answer.
    """

    piecewise = False

    def __init__(self, heads: int, width: int, *, name: str = "looked") -> None:
        super().__init__(heads, width)
        self.name = name

    def weights(self, weights: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The weights."""
        if at.context.notes is not None:
            at.context.notes[self.name] = weights.mean(1)
        return weights
