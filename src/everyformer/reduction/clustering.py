"""Reductions to a coarser grid of cluster centres."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.reduction.base import Slot, Step
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("reduction")
class Superpixels(Step):
    """A grid of tokens becomes a coarser one of soft cluster centres (Liang et al., Expediting large-scale vision
    transformers, 2022, section 3.2).

    `rounds` of soft assignment, each token to the centres in a window of `window` x `window` around its own cell; each
    side of the grid shrinks by the square root of `keep`. What undoes it is taken from the tokens as they are here: each
    has the mean of the `nearest` centres, weighted by exp(-`temperature` d^2) (equation 5).
    """

    capabilities = frozenset({"grid"})
    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        keep: float = 0.5,
        rounds: int = 5,
        window: int = 5,
        temperature: float = 0.01,
        nearest: int = 20,
    ) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep is a share above 0, 1 at most; given {keep}")
        if window % 2 != 1:
            raise ValueError(f"a window has a middle, so its side is odd; given {window}")
        self.keep, self.rounds, self.window = keep, rounds, window
        self.temperature, self.nearest = temperature, nearest

    def cells(self, tokens: Tokens) -> tuple[int, int]:
        """The sides of the coarser grid."""
        if tokens.grid is None or len(tokens.grid) != 2:
            raise BadInput(
                f"Superpixels clusters the tokens of a picture's grid; here the grid is {tokens.grid}; "
                "put it before any reduction that leaves no grid, or use ToMe"
            )
        height, width = (max(1, round(side * self.keep**0.5)) for side in tokens.grid)
        return height, width

    def idle(self, tokens: Tokens) -> bool:
        """Whether the grid stays as it is."""
        return self.cells(tokens) == tokens.grid

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The centres on their grid, and the shares in them that undo it."""
        cells = self.cells(tokens)
        assert tokens.grid is not None
        lead = tokens.prefix
        values = tokens.values[:, lead:]
        centres = pooled(values, tokens.grid, cells)
        far = ~near_cells(tokens.grid, cells, self.window // 2, values.device)
        for _ in range(self.rounds):
            share = (-self.temperature * gaps(values, centres)).masked_fill(far, -torch.inf).softmax(-1).detach()
            centres = (share / share.sum(1, keepdim=True).clamp(min=1e-16)).mT @ values
        places = pooled(tokens.places[:, lead:].float(), tokens.grid, cells)
        fewer = Tokens(
            torch.cat((tokens.values[:, :lead], centres), 1),
            positions=torch.cat((tokens.places[:, :lead].float(), places), 1),
            grid=cells,
            prefix=lead,
        )
        return fewer, self.way_back(values, centres, lead)

    def way_back(self, values: Tensor, centres: Tensor, lead: int) -> Float[Tensor, "B N K"]:
        """What each token has of each centre; leading tokens have themselves."""
        weight = torch.exp(-self.temperature * gaps(values, centres))
        least = weight.topk(min(self.nearest, weight.shape[-1]), -1).values[..., -1:]
        weight = weight * (weight >= least)
        share = weight / weight.sum(-1, keepdim=True).clamp(min=1e-16)
        whole = F.pad(share, (lead, 0, lead, 0))
        first = torch.arange(whole.shape[1], device=values.device) < lead
        return torch.where(first[:, None], torch.eye(*whole.shape[1:], device=values.device, dtype=whole.dtype), whole)


def gaps(values: Float[Tensor, "B N D"], centres: Float[Tensor, "B K D"]) -> Float[Tensor, "B N K"]:
    """Squared distances."""
    squares = (values**2).sum(-1)[..., None] + (centres**2).sum(-1)[:, None]
    return (squares - 2 * values @ centres.mT).clamp(min=0)


def pooled(values: Float[Tensor, "#B N D"], grid: tuple[int, ...], cells: tuple[int, int]) -> Float[Tensor, "#B K D"]:
    """The means of a grid's values in the cells of a coarser one."""
    return F.adaptive_avg_pool2d(values.mT.unflatten(-1, grid), cells).flatten(2).mT


def near_cells(grid: tuple[int, ...], cells: tuple[int, int], reach: int, device: torch.device) -> Bool[Tensor, "N K"]:
    """Which cells lie within `reach` of the cell that each place of a grid is in, along each axis."""
    axes = []
    for fine, coarse in zip(grid, cells, strict=True):
        home = torch.arange(fine, device=device) * coarse // fine
        axes.append((home[:, None] - torch.arange(coarse, device=device)).abs() <= reach)
    rows, columns = axes
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1).flatten(1)
