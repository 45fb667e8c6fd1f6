"""Biases by where two cells of a map stand to each other."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.registry import part
from everyformer.tables import Table


class _Offsets(Position):
    """Base: a bias per head for each offset of rows and columns."""

    stands = "attention"
    window: int

    def looked_up(self, index: Int[Tensor, "#B N M"]) -> Float[Tensor, "H _ N M"]:
        """The biases at these columns of a table of every offset, rows of offsets first."""
        raise NotImplementedError

    def bias(
        self,
        query: Float[Tensor, "B H N K"],
        query_places: Shaped[Tensor, "#B N k"],
        key_places: Shaped[Tensor, "#B M k"],
        scale: float,
        context: Context,
    ) -> Float[Tensor, "#B H N M"]:
        """The bias of every offset; tokens on a line stand in one column."""
        key = "offsets", type(self), self.window, id(query_places), id(key_places)
        if key not in context.lowered:
            context.lowered[key] = query_places, key_places, self.index(query_places, key_places)
        return self.looked_up(context.lowered[key][2]).transpose(0, 1)

    def index(
        self, query_places: Shaped[Tensor, "#B N k"], key_places: Shaped[Tensor, "#B M k"]
    ) -> Int[Tensor, "#B N M"]:
        """The column of the table for each query and key, rows of offsets first."""
        reach = self.window - 1
        offset = query_places[:, :, None, :2].long() - key_places[:, None, :, :2].long()
        offset = F.pad(offset, (0, 2 - offset.shape[-1])).clamp(-reach, reach) + reach
        return offset[..., 0] * (2 * self.window - 1) + offset[..., 1]


@part("positions")
class RelativeGrid(_Offsets):
    """A learned bias per head for each offset of rows and columns within a window (Liu et al., Swin, 2021, equation 4).

    Smaller windows read the same table; an offset beyond it counts as the farthest one.
    """

    def __init__(self, width: int, heads: int = 1, *, window: int = 7, std: float = 0.02) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"a window is at least 1 cell wide; given {window}")
        self.window = window
        self.table = Table(heads, (2 * window - 1) ** 2, partial(nn.init.trunc_normal_, std=std))

    def looked_up(self, index: Int[Tensor, "#B N M"]) -> Float[Tensor, "H _ N M"]:
        """What the table holds."""
        return self.table(index)


@part("positions")
class LeadingGrid(RelativeGrid):
    """Biases by offset on a grid that leading tokens stand before (Bao et al., BEiT, 2022, official code).

    Three more biases stand for a leading token looking at cells, for being looked at by them, and for each other. The
    first `leading` tokens of a sequence are those.
    """

    def __init__(self, width: int, heads: int = 1, *, window: int = 14, leading: int = 1, std: float = 0.02) -> None:
        super().__init__(width, heads, window=window, std=std)
        self.leading, self.cells = leading, self.table.weight.shape[1]
        self.table.weight = nn.Parameter(F.pad(self.table.weight.detach(), (0, 3)))

    def index(
        self, query_places: Shaped[Tensor, "#B N k"], key_places: Shaped[Tensor, "#B M k"]
    ) -> Int[Tensor, "#B N M"]:
        """The column of the table for each query and key."""
        index = super().index(query_places, key_places)
        queries, keys = index.shape[1:]
        asks = (torch.arange(keys - queries, keys, device=index.device) < self.leading)[:, None]
        told = (torch.arange(keys, device=index.device) < self.leading)[None]
        index = torch.where(asks, self.cells, index)
        index = torch.where(told, self.cells + 1, index)
        return torch.where(asks & told, self.cells + 2, index)


@part("positions")
class LogGrid(_Offsets):
    """16 sigmoid(MLP(offset)) with offsets on a logarithmic scale (Liu et al., Swin V2, 2022, equations 3 and 4).

    `trained` is the window that the scale was made for, where that is another.
    """

    def __init__(
        self, width: int, heads: int = 1, *, window: int = 7, trained: int | None = None, hidden: int = 512
    ) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"a window is at least 1 cell wide; given {window}")
        self.window, self.scale = window, 8 / max((trained or window) - 1, 1)
        self.up = nn.Linear(2, hidden)
        self.down = nn.Linear(hidden, heads, bias=False)

    def looked_up(self, index: Int[Tensor, "#B N M"]) -> Float[Tensor, "H _ N M"]:
        """What the network says of every offset."""
        side = torch.arange(1 - self.window, self.window, device=self.up.weight.device).to(self.up.weight.dtype)
        offsets = torch.cartesian_prod(side, side) * self.scale
        offsets = offsets.sign() * torch.log2(offsets.abs() + 1) / 3
        rows = 16 * self.down(F.relu(self.up(offsets))).T.sigmoid()
        return rows.index_select(1, index.flatten()).unflatten(1, index.shape)
