"""Weights multiplied by a learned factor of each distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Scored, ScoreStep
from everyformer.registry import part
from everyformer.tables import Table


@part("scores")
class DistanceFactors(ScoreStep):
    """softmax(...)_ij times c_{i-j}, learned for each head, 1 at the start, not normalised again (Luo et al., URPE, 2022, eq. 10).

    Distances beyond `farthest` have the factor of the farthest. Rows no longer sum to one, so that even equal tokens can
    tell where they stand, which relative biases inside softmax cannot.
    """

    capabilities = ScoreStep.capabilities - {"padding", "weights"} | {"ordered"}
    piecewise = False

    def __init__(self, heads: int, width: int, *, farthest: int = 128) -> None:
        super().__init__(heads, width)
        if farthest < 1:
            raise ValueError(f"farthest is at least 1; given {farthest}")
        self.farthest = farthest
        self.factors = Table(heads, 2 * farthest + 1, nn.init.ones_)

    def weights(self, weights: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The weights times the factors of their distances; the last query stands at the last key."""
        queries, keys = weights.shape[-2:]
        place = torch.arange(keys, device=weights.device)
        distance = place[keys - queries :, None] - place
        return weights * self.factors(distance.clamp(-self.farthest, self.farthest) + self.farthest)
