"""A transition inside attention: the queries are pooled."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Transition
from everyformer.errors import BadInput
from everyformer.grids import as_cells, as_tokens
from everyformer.mixers.attend import Lowered, Taps, attend
from everyformer.mixers.windows import joined, windows
from everyformer.norms import LayerNorm
from everyformer.norms.branches import Branch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class QueryPooling(Transition):
    """pool(W norm(x)) + attention(norm(x)) whose queries are pooled: half the grid (Ryali et al., Hiera, 2023, figure 5;
    Fan et al., MViT, 2021, section 3.1).

    Pooling takes the largest of each 2x2 neighbourhood. `unit` is the side of the windows that attention stays in, before
    pooling; None: it sees the whole map.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        heads: int = 1,
        unit: int | None = None,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__()
        if to % heads:
            raise ValueError(f"width {to} is not a multiple of heads {heads}")
        if unit is not None and unit % 2:
            raise ValueError(f"a unit that is pooled has an even side; given {unit}")
        self.heads, self.unit = heads, unit
        self.norm = self.make("norm", norm, width)
        self.project = nn.Linear(width, to)
        self.qkv = nn.Linear(width, 3 * to)
        self.output = nn.Linear(to, to)
        self.branches = self.make("branches", branches, to)
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on half the grid."""
        context = context or Context()
        cells = self.norm(as_cells(tokens))
        grid = cells.shape[1], cells.shape[2]
        sides = grid if self.unit is None else (self.unit, self.unit)
        if grid[0] % 2 or grid[1] % 2 or grid[0] % sides[0] or grid[1] % sides[1]:
            raise BadInput(
                f"a map of {grid[0]}x{grid[1]} cells cannot be cut into units of {sides[0]}x{sides[1]} and pooled by 2; "
                "give a picture whose sides are multiples of those of a unit"
            )
        query, key, value = windows(self.qkv(cells), sides).chunk(3, -1)
        query = largest(query.unflatten(1, sides)).flatten(1, 2)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        mixed = attend(query, key, value, lowered=Lowered(), scale=query.shape[-1] ** -0.5, taps=self.taps)
        mixed = self.output(mixed.transpose(1, 2).flatten(2))
        update = joined(mixed, (sides[0] // 2, sides[1] // 2), (grid[0] // 2, grid[1] // 2))
        kept = as_tokens(largest(self.project(cells)).permute(0, 3, 1, 2))
        update = update.flatten(1, 2)
        for branch in self.branches:
            update = branch(update, kept, context)
        return kept.update(kept.values + update)


def largest(cells: Tensor) -> Tensor:
    """The largest value of each 2x2 neighbourhood of (B, Y, X, D)."""
    return F.max_pool2d(cells.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
