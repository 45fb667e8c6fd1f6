"""How a map is brought to a finer grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.registry import Part, part


class Upsampling(Part):
    """Base of what makes a map finer: built with the width of what guides it and how many times as fine the answer is."""

    needs_grid = True

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, cells: Float[Tensor, "B C Y X"], guide: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B C y x"]:
        """The map `factor` times as fine; `guide` stands on its grid."""
        raise NotImplementedError


@part("heads")
class Bilinear(Upsampling):
    """Between cells in proportion; the guide is not looked at."""

    def forward(self, cells: Float[Tensor, "B C Y X"], guide: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B C y x"]:
        """The map `factor` times as fine."""
        return resized(cells, (self.factor * cells.shape[2], self.factor * cells.shape[3]))


@part("heads")
class Convex(Upsampling):
    """Each fine cell a mean of the 3 x 3 coarse ones around it, by shares that two convolutions read off the guide (Teed and
    Deng, RAFT, 2020, section 3.3); beyond the border the nearest cell, where theirs has zeros.
    """

    def __init__(self, width: int, factor: int) -> None:
        super().__init__(width, factor)
        self.read = nn.Conv2d(width, width, 3, padding=1)
        self.shares = nn.Conv2d(width, 9 * factor**2, 1)

    def forward(self, cells: Float[Tensor, "B C Y X"], guide: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B C y x"]:
        """The map `factor` times as fine."""
        return convex(cells, self.shares(F.relu(self.read(guide))), self.factor)


def convex(cells: Float[Tensor, "B C Y X"], logits: Float[Tensor, "B E Y X"], factor: int) -> Float[Tensor, "B C y x"]:
    """A map `factor` times as fine, each cell a mean of the 3 x 3 around it by a softmax over 9 of the `logits`, which are in
    the order (neighbour, row, column).
    """
    shares = logits.unflatten(1, (9, factor, factor)).softmax(1)
    near = F.pad(cells, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return torch.einsum("bcyxn,bnrsyx->bcyrxs", near, shares).flatten(4).flatten(2, 3)
