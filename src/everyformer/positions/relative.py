"""Relative positions that queries look up, learned (Shaw et al., 2018) or made of waves (Dai et al., 2019)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from everyformer.context import Context, sizes
from everyformer.contracts import Position
from everyformer.positions.additive import sinusoid
from everyformer.registry import part


@part("positions")
class Relative(Position):
    """A learned vector for each distance, clipped at `farthest`, added to the key (Shaw et al., 2018, equation 4).

    `axis` is the one along which it is measured, 0 on a line, 0 or 1 (rows or columns) on a grid: `Combined` of both is the
    decomposed form of Li et al., MViTv2, 2022. The heads share the vectors (section 3.3). The vectors on the value side (equation 3) are left out: they change no
    result in the paper (table 3), and would need the weights of attention formed.
    """

    stands = "attention"

    def __init__(self, width: int, heads: int = 1, *, farthest: int = 16, axis: int = 0) -> None:
        super().__init__()
        if farthest < 1:
            raise ValueError(f"farthest is at least 1; given {farthest}")
        self.farthest, self.axis = farthest, axis
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
        table = self.table(torch.arange(2 * self.farthest + 1, device=query.device)).to(query.dtype)
        scores = query @ table.T * scale
        return _looked_up(scores, self.farthest, query_places, key_places, context, self.axis)


@part("positions")
class RelativeWaves(Position):
    """(q_i + v) W_R R_(i - j): a sinusoid of each distance, mapped, met by the query and a learned v of each head.

    Terms (b) and (d) of Transformer-XL (Dai et al., 2019, section 3.3); `scores.KeyBias` is term (c). Distances are
    clipped at `farthest`.
    """

    stands = "attention"

    def __init__(self, width: int, heads: int = 1, *, farthest: int = 256) -> None:
        super().__init__()
        if farthest < 1:
            raise ValueError(f"farthest is at least 1; given {farthest}")
        self.farthest, self.heads = farthest, heads
        self.project = nn.Linear(width, width, bias=False)
        self.vector = nn.Embedding(heads, width // heads)
        nn.init.normal_(self.vector.weight, std=0.02)

    def bias(
        self,
        query: Float[Tensor, "B H N K"],
        query_places: Shaped[Tensor, "#B N k"],
        key_places: Shaped[Tensor, "#B M k"],
        scale: float,
        context: Context,
    ) -> Float[Tensor, "B H N M"]:
        """Both terms, scaled as the scores are."""
        distance = -torch.arange(-self.farthest, self.farthest + 1, device=query.device)
        waves = sinusoid(distance, self.project.in_features)
        waves = torch.cat((waves[:, ::2], waves[:, 1::2]), -1).to(query.dtype)
        table = self.project(waves).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        vector = self.vector(torch.arange(self.heads, device=query.device)).to(query.dtype)[:, None]
        scores = (query + vector) @ table.mT * scale
        return _looked_up(scores, self.farthest, query_places, key_places, context)


def _looked_up(
    scores: Float[Tensor, "B H N d"],
    farthest: int,
    query_places: Tensor,
    key_places: Tensor,
    context: Context,
    axis: int = 0,
) -> Float[Tensor, "B H N M"]:
    """Of the scores of a query with every distance, from -farthest to farthest, those with the keys."""
    key = "relative", axis, farthest, id(query_places), sizes(*key_places.shape)
    if key not in context.lowered:
        distance = key_places[:, None, :, axis] - query_places[:, :, None, axis]
        context.lowered[key] = query_places, (distance.long().clamp(-farthest, farthest) + farthest)[:, None]
    _, index = context.lowered[key]
    return torch.gather(scores, -1, index.expand(*scores.shape[:2], -1, -1))
