"""Positions that count the cells of a grid one after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.contracts import Position
from everyformer.positions.additive import sinusoid
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class RasterSinusoidal(Position):
    """Sines and cosines of a token's place in row-major order, its grid left aside (Hassani et al., CCT, 2021, official code).

    The first token stands in the place `start`.
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0, start: int = 0) -> None:
        super().__init__()
        self.width, self.base, self.start = width, base, start

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The sinusoid of every place."""
        places = torch.arange(tokens.count - tokens.prefix, device=tokens.values.device)[None] + self.start
        return sinusoid(places, self.width, self.base).to(tokens.values.dtype)
