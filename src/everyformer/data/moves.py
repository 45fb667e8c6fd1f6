"""Augmentation that moves a picture and what stands on it together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from everyformer.data.draws import uniform


class Moves:
    """A window into each picture: where it lies, how far it is enlarged (`zoom`, lowest and highest), whether mirrored.

    One affine map a sample, drawn from (seed, index); `size` is that of what comes out. A window lies inside the picture
    where it can.
    """

    def __init__(
        self,
        indices: Sequence[int],
        seed: int,
        *,
        size: tuple[int, int],
        of: tuple[int, int],
        zoom: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
    ) -> None:
        self.size = size
        drawn = uniform(seed, indices, 4).float()
        low, high = zoom
        enlarged = low * (high / low) ** drawn[:, 0]
        span = torch.tensor([size[1] / of[1], size[0] / of[0]]) / enlarged[:, None]
        self.middle = (2 * drawn[:, 1:3] - 1) * (1 - span).clamp(min=0)
        """Of the window (x, y), where the picture goes from -1 to 1."""
        mirrored = (drawn[:, 3] < 0.5) & flip
        self.span = torch.stack((torch.where(mirrored, -span[:, 0], span[:, 0]), span[:, 1]), 1)
        """Half of the window (x, y), negative where it is mirrored."""

    def pictures(self, cells: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C y x"]:
        """The windows, bilinear; 0 outside."""
        return self._sampled(cells, "bilinear")

    def maps(self, values: Shaped[Tensor, "B Y X"], outside: float) -> Shaped[Tensor, "B y x"]:
        """The windows of maps of whole numbers or of depths: each cell the nearest one; `outside` where there is none."""
        found = self._sampled(torch.stack((values.double(), torch.ones_like(values).double()), 1), "nearest")
        return torch.where(found[:, 1] > 0.5, found[:, 0], outside).to(values.dtype)

    def points(self, points: Float[Tensor, "B T P 2"]) -> Float[Tensor, "B T P 2"]:
        """Points (x, y, as shares of the picture's sides) as shares of the windows' sides."""
        return ((2 * points - 1 - self.middle[:, None, None]) / self.span[:, None, None] + 1) / 2

    def boxes(self, boxes: Float[Tensor, "B T 4"]) -> tuple[Float[Tensor, "B T 4"], Float[Tensor, "B T"]]:
        """Boxes (left, top, right, bottom, as shares of the picture) as shares of the windows, cut at their borders, and
        which part of each is still there.
        """
        ends = self.points(boxes.unflatten(-1, (2, 2))).sort(2).values
        inside = ends.clamp(0, 1)
        whole, left = ((each[:, :, 1] - each[:, :, 0]).prod(-1) for each in (ends, inside))
        return inside.flatten(2), left / whole.clamp(min=1e-9)

    def _sampled(self, cells: Tensor, mode: str) -> Tensor:
        turn = torch.zeros(len(cells), 2, 3, dtype=cells.dtype)
        turn[:, 0, 0], turn[:, 1, 1], turn[:, :, 2] = self.span[:, 0], self.span[:, 1], self.middle
        grid = F.affine_grid(turn, [len(cells), 1, *self.size], align_corners=False)
        return F.grid_sample(cells, grid, mode=mode, align_corners=False)
