"""Boxes: (centre x, centre y, width, height) or (left, top, right, bottom), how much two of them have in common, and what
they show.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Centre and size as left, top, right and bottom."""
    centre, size = boxes.split(2, -1)
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def centred(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Left, top, right and bottom as centre and size."""
    first, last = boxes.split(2, -1)
    return torch.cat(((first + last) / 2, last - first), -1)


def overlaps(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> tuple[Tensor, Tensor]:
    """The share of the union that both of two boxes (corners) cover, and what generalised IoU takes off for the part of
    the box around both that neither covers (Rezatofighi et al., 2019, algorithm 1).
    """
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner
    least = torch.finfo(union.dtype).eps
    return inner / union.clamp(min=least), (outer - union) / outer.clamp(min=least)


def regions(
    maps: Float[Tensor, "N C Y X"], boxes: Float[Tensor, "N 4"], side: int, *, samples: int = 2
) -> Float[Tensor, "N C side side"]:
    """What maps show inside boxes (corners, as shares of the sides), on a grid of `side` cells a side, each the mean of
    `samples`^2 bilinear ones (RoIAlign of He et al., Mask R-CNN, 2017, section 3; aligned as in Detectron2).
    """
    first, last = boxes.unflatten(-1, (2, 2)).unbind(-2)
    steps = (torch.arange(side * samples, device=boxes.device, dtype=boxes.dtype) + 0.5) / (side * samples)
    at = first[:, None] + steps[:, None] * (last - first)[:, None]
    x, y = (2 * at - 1).unbind(-1)
    grid = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), -1)
    found = F.grid_sample(maps, grid.to(maps.dtype), padding_mode="border", align_corners=False)
    return F.avg_pool2d(found, samples)
