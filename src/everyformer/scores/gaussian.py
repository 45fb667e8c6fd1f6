"""Scores multiplied by a learned function of the distance on the grid."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.contracts import Scored, ScoreStep
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tables import Table


def _spread(table: Tensor) -> Tensor:
    """10 and more, of either sign (official code)."""
    return nn.init.normal_(table, mean=10.0, std=10.0)


@part("scores")
class GaussianMixture(ScoreStep):
    """M_ij q_i k_j with M_ij = sum_c a_c exp(-d_ij^2 / (2 s_c^2 + 2e-5)), d the distance of two cells and a and s
    learned for each head (Li et al., RetNet Viewed through Convolution, 2023, section 3; 1e-5 is the official code's).

    Far cells have a score of 0, not a weight of 0. Tokens on a line have the distance of their places.
    """

    capabilities = (ScoreStep.capabilities - {"incremental", "weights"}) | {"ordered"}
    placed = True

    def __init__(self, heads: int, width: int, *, components: int = 3) -> None:
        super().__init__(heads, width)
        if components < 1:
            raise ValueError(f"a mixture has at least 1 component; given {components}")
        self.components = components
        self.spread = Table(heads, components, _spread)
        self.weight = Table(heads, components, partial(nn.init.normal_, std=2.0))

    def scores(self, scores: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The scores times the mask; those of slots, which stand before the keys and nowhere, stay."""
        if at.places is None:
            raise BadInput(
                "GaussianMixture asks where queries and keys stand, and this attention does not tell its steps"
            )
        mask = self.mask(*at.places).to(scores.dtype)
        return scores * F.pad(mask, (scores.shape[-1] - mask.shape[-1], 0), value=1.0)

    def mask(self, queries: Tensor, keys: Tensor) -> Float[Tensor, "#B H N M"]:
        """M for queries and keys that stand in these places (#B, N, k) and (#B, M, k)."""
        distance = (queries[:, :, None] - keys[:, None]).square().sum(-1, dtype=torch.float32)[:, None]
        every = torch.arange(self.components, device=distance.device)
        rates = 0.5 / (self.spread(every).square() + 1e-5)
        shares = self.weight(every)
        kernels = (
            share[:, None, None] * torch.exp(-distance * rate[:, None, None])
            for share, rate in zip(shares.unbind(1), rates.unbind(1), strict=True)
        )
        return sum(kernels)  # type: ignore[return-value]
