"""A feedforward across the cells of a map."""

from __future__ import annotations

import math

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


@part("mixers")
class TokenMLP(Mixer):
    """W2 act(W1 x) over the cells of every channel alone (Tolstikhin et al., MLP-Mixer, 2021, equation 1).

    It is built for the cells of `grid`; a map of another size is resampled to it and its update back. Leading tokens get
    no update.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        grid: tuple[int, int] = (14, 14),
        hidden: int = 256,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        cells = math.prod(grid)
        self.up, self.down = nn.Linear(cells, hidden), nn.Linear(hidden, cells)
        self.activation = activation_named(activation)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each cell from all others."""
        cells = as_map(tokens)
        size = cells.shape[-2:]
        if tuple(size) != self.grid:
            cells = F.interpolate(cells, self.grid, mode="bilinear", antialias=True)
        hidden = self.activation(self.up(cells.flatten(2)))
        update = self.down(hidden if self.dropout is None else self.dropout(hidden)).unflatten(-1, self.grid)
        if tuple(size) != self.grid:
            update = F.interpolate(update, size, mode="bilinear", antialias=True)
        return as_update(tokens, update)
