"""Relative positions that queries look up (Shaw et al., 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.registry import part


@part("positions")
class Relative(Position):
    """A learned vector for each distance, clipped at `farthest`, added to the key (Shaw et al., 2018, equation 4).

    The heads share the vectors (section 3.3). The vectors on the value side (equation 3) are left out: they change no
    result in the paper (table 3), and would need the weights of attention formed.
    """

    stands = "attention"

    def __init__(self, width: int, heads: int = 1, *, farthest: int = 16) -> None:
        super().__init__()
        if farthest < 1:
            raise ValueError(f"farthest is at least 1; given {farthest}")
        self.farthest = farthest
        self.table = nn.Embedding(2 * farthest + 1, width // heads)
        nn.init.xavier_uniform_(self.table.weight)

    def bias(
        self,
        query: Float[Tensor, "B H N K"],
        query_places: Shaped[Tensor, "#B N k"],
        key_places: Shaped[Tensor, "#B M k"],
        scale: float,
        context: Context,
    ) -> Float[Tensor, "B H N M"]:
        """q_i a_ij, scaled as the scores are."""
        key = "relative", self.farthest, id(query_places), key_places.shape
        if key not in context.lowered:
            distance = key_places[:, None, :, 0] - query_places[:, :, None, 0]
            index = distance.long().clamp(-self.farthest, self.farthest) + self.farthest
            context.lowered[key] = query_places, index[:, None]
        _, index = context.lowered[key]
        scores = query @ self.table.weight.to(query.dtype).T * scale
        return torch.gather(scores, -1, index.expand(*scores.shape[:2], -1, -1))
