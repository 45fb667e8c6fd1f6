"""Attention to a few points, whose places each token says itself, on the maps of several levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, Position
from everyformer.errors import DoesNotFit
from everyformer.grids import as_cells, places_of
from everyformer.mixers.placed import placed
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class DeformableAttention(Mixer):
    """Each head takes the values at `points` points of every level, which stand around the token's own place as far away
    as a linear map of x + p says, and weighs them by another (Zhu et al., Deformable DETR, 2021, equation 3).

    The tokens fill the `context.grids` of as many `levels` one after the other, or a grid; `places` gives p. Between cells
    values are interpolated, outside a map they are zero. Offsets are counted in cells of the level that they point into.
    """

    capabilities = frozenset({"grid", "ordered"})

    def __init__(self, width: int, *, places: Spec[Position], heads: int = 8, levels: int = 1, points: int = 4) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; give other heads")
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.shares = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.places: Position = self.make("places", places, width, heads)
        self.places.stands_in("embedding")
        self._start()

    def _start(self) -> None:
        """Each head looks its own way, its k-th point k cells away, all points alike (section A.4 and official code)."""
        turn = torch.arange(self.heads) * (2 * math.pi / self.heads)
        way = torch.stack((turn.cos(), turn.sin()), -1)
        way = way / way.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None] * way[:, None, None]
        with torch.no_grad():
            self.offsets.bias.copy_(steps.expand(-1, self.levels, -1, -1).flatten())
        for module in (self.offsets, self.shares):
            nn.init.zeros_(module.weight)
            module.own_init = True  # type: ignore[assignment]
        nn.init.zeros_(self.shares.bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token finds at its points; leading tokens find nothing."""
        grids = None if context is None else context.grids
        if grids is None:
            rows, columns, _ = as_cells(tokens).shape[1:]
            grids = ((rows, columns),)
        if len(grids) != self.levels:
            raise DoesNotFit(f"built for {self.levels} levels, and the tokens fill {len(grids)} grids", "levels")
        shape = self.heads, self.levels, self.points
        asking = placed(tokens, self.places)[:, tokens.prefix :]
        offsets = self.offsets(asking).unflatten(-1, (*shape, 2))
        weights = self.shares(asking).unflatten(-1, shape).flatten(-2).softmax(-1).unflatten(-1, shape[1:])
        centres = torch.cat([_centres(grid, offsets) for grid in grids])[:, None, None]
        values = self.value(tokens.values[:, tokens.prefix :]).unflatten(-1, (self.heads, -1))
        found = torch.zeros_like(values)
        for level, (grid, cells) in enumerate(
            zip(grids, values.split([rows * columns for rows, columns in grids], 1), strict=True)
        ):
            columns_rows = torch.stack([offsets.new_full((), side) for side in reversed(grid)])
            at = 2 * (centres + offsets[..., level, :, :] / columns_rows) - 1
            seen = _sampled(cells.unflatten(1, grid), at)
            found = found + torch.einsum("bnhpk,bnhp->bnhk", seen, weights[..., level, :])
        return F.pad(self.output(found.flatten(2)), (0, 0, tokens.prefix, 0))

    def extra_repr(self) -> str:
        """Heads, levels and points."""
        return f"heads={self.heads}, levels={self.levels}, points={self.points}"


def _centres(grid: tuple[int, int], like: Tensor) -> Float[Tensor, "N 2"]:
    """The middle of each cell as shares of the columns and of the rows."""
    places = places_of(grid, like.device)[0].flip(-1) + 0.5
    return torch.stack([places[:, i] / side for i, side in enumerate(reversed(grid))], -1).to(like.dtype)


def _sampled(cells: Float[Tensor, "B Y X H K"], at: Float[Tensor, "B N H P 2"]) -> Float[Tensor, "B N H P K"]:
    """The values of each head at its points, column before row, -1 to 1 over the map."""
    batch, heads = at.shape[0], at.shape[2]
    maps = cells.permute(0, 3, 4, 1, 2).flatten(0, 1)
    found = F.grid_sample(maps, at.transpose(1, 2).flatten(0, 1), align_corners=False)
    return found.unflatten(0, (batch, heads)).permute(0, 3, 1, 4, 2)
