"""Maps that are bent: where a thin plate spline leads, what stands there, and the way back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def spline(control: Float[Tensor, "B K 2"], grid: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "B N 2"]:
    """Row and column that each cell of a map of that `size` is led to, in cells: the smoothest way that leads the points of
    a regular `grid` over the map to the `control` points, -1 to 1 (Bookstein, 1989); ends at the border.
    """
    fixed, cells = _regular(grid, control.device), _regular(size, control.device)
    lifted = torch.cat((F.pad(fixed, (1, 0), value=1.0), _bent(fixed, fixed)), 1)
    below = F.pad(F.pad(fixed, (1, 0), value=1.0).mT, (3, 0))
    basis = torch.cat((F.pad(cells, (1, 0), value=1.0), _bent(cells, fixed)), 1)
    shares = basis @ torch.linalg.inv(torch.cat((below, lifted)))[:, 3:]
    led = (shares.to(control.dtype) @ control + 1) / 2
    return torch.stack([(led[..., i] * (side - 1)).clamp(0, side - 1) for i, side in enumerate(size)], -1)


def taken(cells: Float[Tensor, "B D Y X"], points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B D Y X"]:
    """What stands at the points, bilinearly, in the place of each cell."""
    seen = torch.stack([2 * points[..., i] / max(cells.shape[2 + i] - 1, 1) - 1 for i in (1, 0)], -1)
    return F.grid_sample(cells, seen.unflatten(1, cells.shape[2:]), padding_mode="border", align_corners=True)


def sent_back(cells: Float[Tensor, "B D Y X"], points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B D Y X"]:
    """Each cell sent to its point: what lands on a cell is averaged by how near it landed, and where nothing lands the cell
    stays as it is.
    """
    rows, columns = cells.shape[2:]
    values = F.pad(cells, (0, 0, 0, 0, 0, 1), value=1.0).flatten(2).mT
    corner = points.detach().floor()
    share = points - corner
    total = torch.zeros_like(values)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = (corner[..., 0] + down).clamp(max=rows - 1), (corner[..., 1] + right).clamp(max=columns - 1)
        near = (1 - down - share[..., 0]).abs() * (1 - right - share[..., 1]).abs()
        at = (row * columns + column).long()[..., None].expand_as(values)
        total = total.scatter_add(1, at, near[..., None] * values)
    landed, count = total[..., :-1], total[..., -1:]
    back = torch.where(count > 1e-5, landed / count.clamp(min=1e-5), values[..., :-1])
    return back.mT.unflatten(2, (rows, columns))


def _regular(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "K 2"]:
    """The points of a regular grid from -1 to 1, row by row."""
    axes = [torch.linspace(-1, 1, side, dtype=torch.float64, device=device) for side in grid]
    return torch.cartesian_prod(*axes)


def _bent(points: Float[Tensor, "N 2"], fixed: Float[Tensor, "K 2"]) -> Float[Tensor, "N K"]:
    """r^2 log r^2 of the distances r."""
    square = (points[:, None] - fixed).square().sum(-1)
    return square * square.clamp(min=1e-10).log()
