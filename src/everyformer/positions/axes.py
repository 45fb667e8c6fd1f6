"""Positions that are learned for each axis of a grid by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.errors import BadInput
from everyformer.positions.additive import within
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class LearnedAxes(Position):
    """A learned vector for each row and one for each column, added (Koutini et al., PaSST, 2022, section 3.1).

    `grid` is the largest that comes; a smaller one takes the first vectors of each axis.
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, grid: tuple[int, ...] = (12, 99), std: float = 0.02) -> None:
        super().__init__()
        if len(grid) != 2:
            raise ValueError(f"grid is (rows, columns); given {grid}")
        self.rows, self.columns = (nn.Parameter(torch.randn(side, width) * std) for side in grid)

    def add(self, tokens: Tokens) -> Float[Tensor, "1 N D"]:
        """The vectors of every cell."""
        grid, most = tokens.grid, (len(self.rows), len(self.columns))
        if grid is None or len(grid) != 2 or grid[0] > most[0] or grid[1] > most[1]:
            raise BadInput(
                f"LearnedAxes has positions for a grid of {most} at most; here it is {grid}; build with more"
            )
        return (self.rows[: grid[0], None] + self.columns[None, : grid[1]]).flatten(0, 1)[None]


@part("positions")
class Axial(Position):
    """The vectors of row and column side by side, a line of places being folded into `grid` (Kitaev et al., 2020, official code).

    `widths` are those of both, half of the width each where not given: a long line takes two short tables.
    """

    stands = "embedding"

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        grid: tuple[int, ...] = (64, 64),
        widths: tuple[int, ...] | None = None,
        std: float = 0.02,
    ) -> None:
        super().__init__()
        widths = widths or (width // 2, width - width // 2)
        if len(grid) != 2 or len(widths) != 2 or sum(widths) != width:
            raise ValueError(f"grid is (rows, columns) and widths two that sum to {width}; given {grid} and {widths}")
        self.rows, self.columns = (nn.Embedding(side, each) for side, each in zip(grid, widths, strict=True))
        for table in (self.rows, self.columns):
            nn.init.normal_(table.weight, std=std)

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The vectors of every place; a place beyond the grid is an error."""
        columns = self.columns.num_embeddings
        places = within(tokens, self.rows.num_embeddings * columns)
        return torch.cat((self.rows(places // columns), self.columns(places % columns)), -1)
