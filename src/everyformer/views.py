"""Several views of a scene: what one shows, put together from another by how far away things are, and how like it that is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def lifted(depth: Float[Tensor, "B Y X"], lens: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3 N"]:
    """The points that the pixels show: D K^-1 p, where p is the middle of a pixel."""
    rows, columns = (
        torch.arange(side, device=depth.device, dtype=depth.dtype) + 0.5 for side in (depth.shape[1], depth.shape[2])
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    ways = torch.linalg.inv(lens) @ torch.stack((x, y, torch.ones_like(x))).flatten(1)
    return ways * depth.flatten(1)[:, None]


def projected(points: Float[Tensor, "B 3 N"], lens: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 2 N"]:
    """Where points are seen, column before row, in pixels: K P, divided by how far away they are."""
    seen = lens @ points
    return seen[:, :2] / seen[:, 2:].clamp(min=1e-3)


def synthesised(
    view: Float[Tensor, "B C Y X"],
    depth: Float[Tensor, "B Y X"],
    pose: Float[Tensor, "B 3 4"],
    lens: Float[Tensor, "B 3 3"],
) -> Float[Tensor, "B C Y X"]:
    """What a picture of that `depth` shows if its points look as in another `view`, in whose place `pose`, a rotation and a
    shift, puts them: taken from there bilinearly, beyond its border the nearest (Zhou et al., 2017, section 3.2; Garg et
    al., 2016).
    """
    points = pose[:, :, :3] @ lifted(depth, lens) + pose[:, :, 3:]
    side = torch.stack([depth.new_full((), view.shape[i]) for i in (3, 2)])
    at = 2 * projected(points, lens).mT / side - 1
    return F.grid_sample(
        view, at.unflatten(1, depth.shape[1:]), padding_mode="border", align_corners=False
    )  # fmt: skip


def dissimilarity(
    a: Float[Tensor, "B C Y X"], b: Float[Tensor, "B C Y X"], share: float = 0.85
) -> Float[Tensor, "B Y X"]:
    """`share` (1 - SSIM) / 2 and the rest of |a - b| at each pixel, the mean over the channels, SSIM over 3 x 3 pixels (Godard
    et al., Monodepth2, 2019, section 3.1); pictures go from 0 to 1.
    """
    means, products = ((_around(x), _around(y)) for x, y in ((a, b), (a * a, b * b)))
    both = means[0] * means[1]
    squares = means[0] ** 2, means[1] ** 2
    like = (2 * both + 1e-4) * (2 * (_around(a * b) - both) + 9e-4)
    whole = (squares[0] + squares[1] + 1e-4) * (products[0] - squares[0] + products[1] - squares[1] + 9e-4)
    structure = ((1 - like / whole) / 2).clamp(0, 1)
    return (share * structure + (1 - share) * (a - b).abs()).mean(1)


def roughness(inverse: Float[Tensor, "B Y X"], picture: Float[Tensor, "B C Y X"]) -> Float[Tensor, " B"]:
    """|dx d| exp(-|dx I|) + |dy d| exp(-|dy I|), the means, with d the inverse depth over its mean (Godard et al., Monodepth2,
    2019, equation 3).
    """
    inverse = inverse / (inverse.mean((1, 2), keepdim=True) + 1e-7)
    found = [
        (inverse.diff(dim=axis).abs() * torch.exp(-picture.diff(dim=axis).abs().mean(1))).mean((1, 2))
        for axis in (-1, -2)
    ]
    return found[0] + found[1]


def _around(cells: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y X"]:
    """The mean of 3 x 3 pixels, mirrored at the border."""
    return F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="reflect"), 3, 1)
