"""A table of learned numbers for each head, looked up by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Table(nn.Module):
    """One number of each head for each row; read along a row's heads, so that what is looked up is contiguous.

    It has a start of its own, and does not decay: it is read, and multiplies nothing.
    """

    def __init__(self, heads: int, rows: int, start: Callable[[Tensor], Tensor] = nn.init.zeros_) -> None:
        super().__init__()
        self.weight = nn.Parameter(start(torch.empty(heads, rows)))

    def forward(self, index: Int[Tensor, "..."]) -> Float[Tensor, "H ..."]:
        """The numbers of every head at these rows."""
        return self.weight.index_select(1, index.flatten()).unflatten(1, index.shape)
