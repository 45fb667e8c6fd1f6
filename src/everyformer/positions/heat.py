"""Places that say, beside where a cell stands, how likely the middle of a thing is there."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.grids import as_map
from everyformer.positions.additive import sinusoid
from everyformer.positions.fourier import ScaledSinusoidal
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class HeatPlaces(ScaledSinusoidal):
    """PE(row, column) + S MLP(PE(S)), where the heat S, 0 to 1, is read off the map by a 3x3 and a 1x1 convolution (Zeng, HMPE,
    2025): what is cold stands where it stands and nothing else.

    Heat begins at 0.1 everywhere (Law and Deng, CornerNet, 2018, official code).
    """

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0) -> None:
        super().__init__(width, heads, base=base)
        self.read, self.tell = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 1, 1)
        self.tell.own_init = True  # type: ignore[assignment]
        nn.init.normal_(self.tell.weight, std=0.01)
        nn.init.constant_(self.tell.bias, -math.log(9))  # type: ignore[arg-type]
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def heat(self, tokens: Tokens) -> Float[Tensor, "B 1 Y X"]:
        """The logit of the heat of each cell."""
        return self.tell(F.relu(self.read(as_map(tokens))))

    def at(self, tokens: Tokens, heat: Float[Tensor, "B 1 Y X"]) -> Float[Tensor, "B N D"]:
        """The places of cells that are so hot."""
        hot = heat.flatten(1)
        told = sinusoid(2 * math.pi * hot.float(), self.width, self.base).to(heat.dtype)
        return super().add(tokens) + hot[..., None] * self.down(F.relu(self.up(told)))

    def add(self, tokens: Tokens) -> Float[Tensor, "B N D"]:
        """The place of every cell."""
        return self.at(tokens, self.heat(tokens).sigmoid())
