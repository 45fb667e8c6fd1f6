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
