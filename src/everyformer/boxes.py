"""Boxes: (centre x, centre y, width, height) or (left, top, right, bottom), how much two of them have in common, which of
many stay, and what they show.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.tokens import take


def corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Centre and size as left, top, right and bottom."""
    centre, size = boxes.split(2, -1)
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def centred(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Left, top, right and bottom as centre and size."""
    first, last = boxes.split(2, -1)
    return torch.cat(((first + last) / 2, last - first), -1)


def overlaps(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"], *, smooth: float = 0.0) -> tuple[Tensor, Tensor]:
    """The share of the union that both of two boxes (corners) cover, and what generalised IoU takes off for the part of
    the box around both that neither covers (Rezatofighi et al., 2019, algorithm 1).

    `smooth` is an area that is added to both sides of the share, for losses of boxes that may be empty.
    """
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner
    least = torch.finfo(union.dtype).eps
    return (inner + smooth) / (union + smooth).clamp(min=least), (outer - union) / outer.clamp(min=least)


def kept(boxes: Float[Tensor, "B N 4"], scores: Float[Tensor, "B N"], share: float) -> Bool[Tensor, "B N"]:
    """Which boxes (corners) stay when, from the surest on, each that stays takes away those after it which have more than
    `share` of the union in common with it (greedy non-maximum suppression).
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    ordered = take(boxes, order)
    same = (overlaps(ordered[:, :, None], ordered[:, None])[0] > share).triu(1)
    stays = torch.ones_like(order, dtype=torch.bool)
    for row in range(order.shape[1]):
        stays = stays & ~(same[:, row] & stays[:, row, None])
    return torch.zeros_like(stays).scatter(1, order, stays)


def regions(
    maps: Float[Tensor, "B C Y X"], boxes: Float[Tensor, "B N 4"], side: int, *, samples: int = 2
) -> Float[Tensor, "B N C side side"]:
    """What maps show inside their boxes (corners, as shares of the sides), on a grid of `side` cells a side, each the mean
    of `samples`^2 bilinear ones (RoIAlign of He et al., Mask R-CNN, 2017, section 3; aligned as in Detectron2).
    """
    first, last = boxes.unflatten(-1, (2, 2)).unbind(-2)
    steps = (torch.arange(side * samples, device=boxes.device, dtype=boxes.dtype) + 0.5) / (side * samples)
    at = first[..., None, :] + steps[:, None] * (last - first)[..., None, :]
    x, y = (2 * at - 1).unbind(-1)
    grid = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., None]), -1)
    found = F.grid_sample(maps, grid.flatten(1, 2).to(maps.dtype), padding_mode="border", align_corners=False)
    return F.avg_pool2d(found, samples).unflatten(2, (boxes.shape[1], side)).transpose(1, 2)


def regions_of_levels(
    maps: list[Float[Tensor, "B C _ _"]], boxes: Float[Tensor, "B N 4"], side: int, *, cells: int = 14
) -> Float[Tensor, "B N C side side"]:
    """What maps, each half as fine as the one before, show inside boxes: of one that would fill a square of less than
    2 `cells` cells a side of the first map the first map shows it, of one up to twice that the second, and so on (Lin et al.,
    FPN, 2017, equation 1, whose 224 pixels fill 14 cells of their stride of 16).
    """
    rows, columns = maps[0].shape[2:]
    sides = ((boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) * (rows * columns)).sqrt()
    level = (sides / cells).clamp(min=1).log2().floor().clamp(max=len(maps) - 1)
    found = [regions(each, boxes, side) for each in maps]
    shown = torch.zeros_like(found[0])
    for number, each in enumerate(found):
        shown = torch.where((level == number)[..., None, None, None], each, shown)
    return shown
