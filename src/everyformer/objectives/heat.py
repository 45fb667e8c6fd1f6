"""Maps of heat that lead queries to where things are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import DoesNotFit
from everyformer.objectives.base import IGNORED
from everyformer.objectives.sets import Boxes
from everyformer.registry import part


@part("objectives")
class HeatBoxes(Boxes):
    """The same, and `heat` times the focal loss of the heat that the head notes, which is to be 1 in the cell where the middle of a
    thing is, and around it a bell `spread` times as wide as the thing (Zhou et al., CenterNet, 2019, section 3, equation 1).
    """

    def __init__(
        self, *, none: float = 0.1, l1: float = 5.0, giou: float = 2.0, heat: float = 1.0, spread: float = 1 / 6
    ) -> None:
        super().__init__(none=none, l1=l1, giou=giou)
        self.heat, self.spread = heat, spread

    def beside(self, notes: Mapping[str, Tensor], labels: Float[Tensor, "B T 5"]) -> Tensor | float:
        """The focal loss summed over the samples, each the mean over its things."""
        if "heat" not in notes:
            raise DoesNotFit("the head notes no heat; use heads.HeatQueries, or objectives.Boxes", "head")
        wanted = bells(labels, notes["cells"].float(), self.spread)
        return self.heat * focal(notes["heat"].float(), wanted).sum()


def bells(labels: Float[Tensor, "B T 5"], cells: Float[Tensor, "N 4"], spread: float) -> Float[Tensor, "B N"]:
    """The heat that each cell (middle and size) is to have: the highest of the bells of all things, each around the middle of
    the cell in which the middle of the thing is.
    """
    there = labels[..., 0] != IGNORED
    middle, size = labels[:, :, None, 1:3], labels[:, :, None, 3:5]
    at, side = cells.split(2, -1)
    around = ((middle / side).floor() + 0.5) * side
    apart = (at - around) / (spread * size).clamp(min=1e-6)
    heat = torch.exp(-apart.square().sum(-1) / 2) * there[..., None]
    return heat.amax(1)


def focal(logits: Float[Tensor, "B N"], wanted: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """The first of `focal_terms` where 1 is wanted, elsewhere the second; the sum over the number of the former."""
    peak = wanted > 1 - 1e-4
    right, wrong = focal_terms(logits, wanted)
    return torch.where(peak, right, wrong).sum(1) / peak.sum(1).clamp(min=1)


def focal_terms(logits: Float[Tensor, "B N"], wanted: Float[Tensor, "B N"]) -> tuple[Tensor, Tensor]:
    """-(1 - p)^2 log p and -(1 - wanted)^4 p^2 log(1 - p)."""
    share = logits.sigmoid()
    return (1 - share) ** 2 * F.softplus(-logits), (1 - wanted) ** 4 * share**2 * F.softplus(logits)
