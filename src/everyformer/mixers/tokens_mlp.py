"""Fixed and learned maps across the cells of a map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.dropout import Dropout
from everyformer.grids import as_map, as_update
from everyformer.registry import part
from everyformer.tokens import Tokens


class _Across(Mixer):
    """Base: a map across the cells of `grid`, for every channel alone.

    A map of another size is resampled to it and its update back. Leading tokens get no update.
    """

    capabilities = frozenset({"grid"})

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = tuple(grid)

    def across(self, cells: Float[Tensor, "B D n"]) -> Float[Tensor, "B D n"]:
        """What each cell takes from all others."""
        raise NotImplementedError

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each cell from all others."""
        cells = as_map(tokens)
        size = cells.shape[-2:]
        if tuple(size) != self.grid:
            cells = F.interpolate(cells, self.grid, mode="bilinear", antialias=True)
        update = self.across(cells.flatten(2)).unflatten(-1, self.grid)
        if tuple(size) != self.grid:
            update = F.interpolate(update, size, mode="bilinear", antialias=True)
        return as_update(tokens, update)


@part("mixers")
class TokenMLP(_Across):
    """W2 act(W1 x) over the cells of every channel alone (Tolstikhin et al., MLP-Mixer, 2021, equation 1).

    It is built for the cells of `grid`; a map of another size is resampled to it and its update back. Leading tokens get
    no update.
    """

    def __init__(
        self,
        width: int,
        *,
        grid: tuple[int, int] = (14, 14),
        hidden: int = 256,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(grid)
        cells = math.prod(grid)
        self.up, self.down = nn.Linear(cells, hidden), nn.Linear(hidden, cells)
        self.activation = activation_named(activation)
        self.dropout = Dropout(dropout) if dropout else None

    def across(self, cells: Float[Tensor, "B D n"]) -> Float[Tensor, "B D n"]:
        """Both maps."""
        hidden = self.activation(self.up(cells))
        return self.down(hidden if self.dropout is None else self.dropout(hidden))


@part("mixers")
class RandomMixing(_Across):
    """A random matrix across the cells, each row a softmax, which is never trained (Yu et al., MetaFormer Baselines, 2024, 2.2).

    It is built for the cells of `grid`; a map of another size is resampled to it and its update back.
    """

    matrix: Tensor

    def __init__(self, width: int, *, grid: tuple[int, int] = (14, 14)) -> None:
        super().__init__(grid)
        cells = math.prod(grid)
        self.register_buffer("matrix", torch.rand(cells, cells).softmax(-1))

    def across(self, cells: Float[Tensor, "B D n"]) -> Float[Tensor, "B D n"]:
        """The mean of the cells that the matrix weighs."""
        return cells @ self.matrix.mT
