"""What rounds the values that go into a linear map, as a kernel of whole numbers would see them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.compression.grid import Grid, check
from everyformer.registry import Part, part


class InputGrid(Part):
    """Base of what rounds the inputs of a linear map; built with their width.

    The rounding is worked in floating point; its gradient is that of the identity (Bengio et al., 2013).
    """

    def grid(self, values: Float[Tensor, "... D"]) -> Grid:
        """What these values are rounded to."""
        raise NotImplementedError

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The rounded values."""
        rounded = self.grid(values.detach()).round(values.detach())
        return values + (rounded - values).detach() if values.requires_grad else rounded


@part("compression")
class EachToken(InputGrid):
    """A scale for each token, from its largest value (ZeroQuant, Yao et al., 2022, section 4.1)."""

    def __init__(self, width: int, *, bits: int = 8) -> None:
        super().__init__()
        check(bits)
        self.bits = bits

    def grid(self, values: Float[Tensor, "... D"]) -> Grid:
        """What these values are rounded to."""
        reach = values.abs().amax(-1, keepdim=True)
        return Grid.between(-reach, reach, self.bits, symmetric=True)


@part("compression")
class Fixed(InputGrid):
    """One scale and one zero for all, or for each channel, found on data beforehand (Jacob et al., 2018, section 3.1)."""

    scale: Tensor
    zero: Tensor

    def __init__(self, width: int, *, bits: int = 8, channels: bool = False) -> None:
        super().__init__()
        check(bits)
        self.bits = bits
        count = width if channels else 1
        self.register_buffer("scale", torch.full((count,), 16 / (2**bits - 1)))
        self.register_buffer("zero", torch.full((count,), float(2 ** (bits - 1))))

    def grid(self, values: Float[Tensor, "... D"]) -> Grid:
        """What these values are rounded to."""
        return Grid(self.scale, self.zero, self.bits)

    @torch.no_grad()
    def fit(self, low: Float[Tensor, " D"], high: Float[Tensor, " D"]) -> None:
        """Reach from the least to the largest value that was seen of each channel."""
        if len(self.scale) == 1:
            low, high = low.min()[None], high.max()[None]
        self.put(Grid.between(low, high, self.bits))

    @torch.no_grad()
    def put(self, grid: Grid) -> None:
        """Round to this grid."""
        self.scale.copy_(grid.scale)
        self.zero.copy_(grid.zero)  # type: ignore[arg-type]
