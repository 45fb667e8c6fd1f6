"""Waves that reach from end to end of whatever grid comes, as they are and through a learned map."""

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


def waves(tokens: Tokens, count: int, base: float) -> Float[Tensor, "N E"]:
    """`count` sines and cosines of the row, then of the column, of every cell; both reach 2 pi at the end."""
    if tokens.grid is None or len(tokens.grid) != 2:
        raise BadInput(f"these waves need tokens on rows and columns; here grid={tokens.grid}; take Sinusoidal")
    rows, columns = (_axis(side, count, base, tokens.values.device) for side in tokens.grid)
    shape = (*tokens.grid, count)
    return torch.cat((rows[:, None].expand(shape), columns[None].expand(shape)), -1).flatten(0, 1)


def _axis(side: int, count: int, base: float, device: torch.device) -> Float[Tensor, "n W"]:
    places = torch.arange(1, side + 1, device=device) * (2 * math.pi / (side + 1e-6))
    return sinusoid(places, count, base)


@part("positions")
class ScaledSinusoidal(Position):
    """Sines and cosines of the row, then of the column, which reach 2 pi at the end of whatever grid comes
    (Carion et al., DETR, 2020, section A.4 and official code).
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"width is a multiple of 4: sine and cosine of row and column; given {width}")
        self.width, self.base = width, base

    def add(self, tokens: Tokens) -> Float[Tensor, "1 N D"]:
        """The waves of every cell."""
        return waves(tokens, self.width // 2, self.base)[None].to(tokens.values.dtype)


@part("positions")
class FourierGrid(Position):
    """The same waves, `waves` of each axis, through a linear map (El-Nouby et al., XCiT, 2021, section 3.4)."""

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, waves: int = 32, base: float = 10000.0) -> None:
        super().__init__()
        self.waves, self.base = waves, base
        self.project = nn.Linear(2 * waves, width)

    def add(self, tokens: Tokens) -> Float[Tensor, "1 N D"]:
        """The map of the waves of every cell."""
        return self.project(waves(tokens, self.waves, self.base).to(self.project.weight.dtype))[None]
