"""A learned bias for every offset between two cells of a grid."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from everyformer.positions.biases import _Bias
from everyformer.registry import part


@part("positions")
class GridOffsets(_Bias):
    """A learned bias per head and offset in rows and columns (Bao et al., BEiT, 2022; Liu et al., Swin, 2021, equation 4).

    Offsets beyond those of `grid` have the bias of the farthest. The first `leading` tokens of a sequence belong to no
    cell: three more biases stand for a leading token looking at cells, for being looked at by them, and for each other.
    """

    def __init__(self, width: int, heads: int = 1, *, grid: tuple[int, ...] = (14, 14), leading: int = 0) -> None:
        super().__init__()
        self.grid, self.leading = tuple(grid), leading
        self.cells = math.prod(2 * side - 1 for side in self.grid)
        self.table = nn.Parameter(torch.randn(self.cells + (3 if leading else 0), heads) * 0.02)

    def scores(
        self, query_places: Shaped[Tensor, "#B N k"], key_places: Shaped[Tensor, "#B M k"]
    ) -> Float[Tensor, "#B H N M"]:
        """The bias of each offset."""
        return self.table[self.index(query_places, key_places)].permute(0, 3, 1, 2)

    def index(
        self, query_places: Shaped[Tensor, "#B N k"], key_places: Shaped[Tensor, "#B M k"]
    ) -> Int[Tensor, "#B N M"]:
        """The row of the table for query less key; tokens on a line stand on the first axis."""
        offset = (query_places[:, :, None] - key_places[:, None]).long()
        index = torch.zeros_like(offset[..., 0])
        for axis, side in enumerate(self.grid):
            step = offset[..., axis].clamp(1 - side, side - 1) if axis < offset.shape[-1] else 0
            index = index * (2 * side - 1) + step + side - 1
        if not self.leading:
            return index
        queries, keys = index.shape[1:]
        asks = (torch.arange(keys - queries, keys, device=index.device) < self.leading)[:, None]
        told = (torch.arange(keys, device=index.device) < self.leading)[None]
        index = torch.where(asks, self.cells, index)
        index = torch.where(told, self.cells + 1, index)
        return torch.where(asks & told, self.cells + 2, index)
