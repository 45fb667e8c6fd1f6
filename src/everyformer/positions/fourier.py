"""Waves over a grid through a learned map."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.errors import BadInput
from everyformer.positions.additive import sinusoid
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class FourierGrid(Position):
    """Sines and cosines of row and column, which reach 2 pi at the end of whatever grid comes, through a linear map
    (El-Nouby et al., XCiT, 2021, section 3.4; Carion et al., DETR, 2020, official code).
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, waves: int = 32, base: float = 10000.0) -> None:
        super().__init__()
        self.waves, self.base = waves, base
        self.project = nn.Linear(2 * waves, width)

    def add(self, tokens: Tokens) -> Float[Tensor, "1 N D"]:
        """The map of the waves of every cell."""
        if tokens.grid is None or len(tokens.grid) != 2:
            raise BadInput(f"FourierGrid needs tokens on rows and columns; here grid={tokens.grid}; take Sinusoidal")
        rows, columns = (self._axis(side, tokens.values.device) for side in tokens.grid)
        shape = (*tokens.grid, self.waves)
        waves = torch.cat((rows[:, None].expand(shape), columns[None].expand(shape)), -1)
        return self.project(waves.flatten(0, 1).to(self.project.weight.dtype))[None]

    def _axis(self, side: int, device: torch.device) -> Float[Tensor, "n W"]:
        places = torch.arange(1, side + 1, device=device) * (2 * math.pi / (side + 1e-6))
        return sinusoid(places, self.waves, self.base)
