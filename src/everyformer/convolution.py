"""Convolutions with a norm and an activation, as maps are mixed in pyramids of convolutions and in decoders of maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """ReLU(BatchNorm(conv(x))), the grid kept but for a `stride`; no bias before the norm unless `bias` (Ioffe and
    Szegedy, 2015).
    """

    def __init__(
        self, width: int, to: int, *, kernel: int = 3, stride: int = 1, bias: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, to, kernel, stride, kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(to, eps=eps)

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The map."""
        return F.relu(self.norm(self.conv(cells)))


class StandardConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and deviation 1, one for each channel that it gives (Qiao et al., 2019)."""

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The convolution with standardised kernels."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(cells, weight, self.bias, self.stride, self.padding)


def resized(cells: Float[Tensor, "B D Y X"], size: tuple[int, ...], *, corners: bool = False) -> Tensor:
    """A map on another grid, bilinearly; `corners`: the middles of the corner cells stay where they are."""
    if tuple(cells.shape[2:]) == tuple(size):
        return cells
    return F.interpolate(cells, size, mode="bilinear", align_corners=corners)


def regridded(cells: Float[Tensor, "B D Y X"], size: tuple[int, ...]) -> Float[Tensor, "B D y x"]:
    """A map on another grid: each cell four times, and the means of what then falls into one (Wang et al., DVT, 2021,
    official code).
    """
    return F.adaptive_avg_pool2d(cells.repeat_interleave(2, 2).repeat_interleave(2, 3), list(size))


def deformed(
    cells: Float[Tensor, "B D Y X"], offsets: Float[Tensor, "B T*2 Y X"], weight: Float[Tensor, "E D K L"]
) -> Float[Tensor, "B E Y X"]:
    """A convolution whose taps read the map off their places, row before column, between cells bilinearly and 0 beyond the
    border (Dai et al., 2017, equation 2).
    """
    rows, columns = cells.shape[2:]
    sides = weight.shape[2:]
    places = [torch.arange(side, device=cells.device) for side in (*sides, rows, columns)]
    tap_row, tap_column, row, column = torch.meshgrid(*places, indexing="ij")
    straight = torch.stack((row + tap_row - sides[0] // 2, column + tap_column - sides[1] // 2)).flatten(1, 2)
    at = straight.movedim(0, 1) + offsets.unflatten(1, (-1, 2))
    seen = torch.stack([(2 * at[:, :, i] + 1) / cells.shape[2 + i] - 1 for i in (1, 0)], -1)
    read = F.grid_sample(cells, seen.flatten(1, 2), align_corners=False).unflatten(2, (-1, rows))
    return torch.einsum("bdtyx,edt->beyx", read, weight.flatten(2))
