"""Where in a picture something may be: what proposes regions, and what looks at one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.registry import Part, part

Map = Float[Tensor, "B C _ _"]


class Proposals(Part):
    """Base of what proposes regions: built with the width of the maps and how many there are, from fine to coarse."""

    needs_grid = True

    def forward(self, maps: list[Map]) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M 4"]]:
        """Of each cell of all maps the logit of a thing's middle being in it, and how many cells it is from the cell's middle
        to the left, top, right and bottom of the thing.
        """
        raise NotImplementedError


@part("heads")
class CenterProposals(Proposals):
    """Each cell says how likely the middle of a thing is in it, and how far from it the sides of that thing are, by `depth`
    convolutions with group norms that all levels share and a factor of each level's own (Zhou et al., CenterNet2, 2021,
    section 3, as in Wu et al., GRiT, 2022: one heat for things of all kinds).

    At first a thing is as likely as `prior` and reaches `reach` cells to each side.
    """

    def __init__(
        self, width: int, levels: int, *, depth: int = 4, groups: int = 32, prior: float = 0.01, reach: float = 8.0
    ) -> None:
        super().__init__()
        self.tower = nn.Sequential()
        for _ in range(depth):
            self.tower.extend((nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(groups, width), nn.ReLU()))
        self.heat = nn.Conv2d(width, 1, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.factor = nn.Embedding(levels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _starts(module, 0.01, 0.0)
        _starts(self.heat, 0.01, -math.log((1 - prior) / prior))
        _starts(self.sides, 0.01, reach)
        nn.init.ones_(self.factor.weight)
        self.factor.own_init = True  # type: ignore[assignment]

    def forward(self, maps: list[Map]) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M 4"]]:
        """The logit of a thing's middle being in each cell, and how many cells it is to the thing's sides."""
        heat, distances = [], []
        factors = self.factor(torch.arange(len(maps), device=maps[0].device))
        for each, factor in zip(maps, factors, strict=True):
            cells = self.tower(each)
            heat.append(self.heat(cells).flatten(1))
            distances.append(F.relu(self.sides(cells) * factor).flatten(2).mT)
        return precise(torch.cat(heat, 1)), precise(torch.cat(distances, 1))


class Looking(Part):
    """Base of what looks at regions: built with the width of a map and the side of the grid that a region is shown on."""

    needs_grid = True

    def forward(self, shown: Float[Tensor, "N C side side"]) -> Float[Tensor, "N 6"]:
        """The logits of there being a thing and of there being none, and how the region should be moved."""
        raise NotImplementedError


@part("heads")
class RegionMLP(Looking):
    """Two linear maps with ReLU; on them a linear map says whether there is a thing, and a perceptron how to move (He et al.,
    Mask R-CNN, 2017, figure 4, left; Wu et al., GRiT, 2022, official code, for the perceptron).
    """

    def __init__(self, width: int, side: int, *, hidden: int = 1024) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(width * side * side, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.thing = nn.Linear(hidden, 2)
        last = nn.Linear(hidden, 4)
        _starts(last, 0.001, 0.0)
        self.move = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)

    def forward(self, shown: Float[Tensor, "N C side side"]) -> Float[Tensor, "N 6"]:
        """The logits of there being a thing and of there being none, and how the region should be moved."""
        seen = self.body(shown)
        return torch.cat((self.thing(seen), self.move(seen)), -1)


def precise(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same, in float32 at least, in which places are told."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _starts(module: nn.Module, std: float, bias: float) -> None:
    """Normal weights and equal biases, whatever the start of the model."""
    nn.init.normal_(module.weight, std=std)  # type: ignore[arg-type]
    nn.init.constant_(module.bias, bias)  # type: ignore[arg-type]
    module.own_init = True  # type: ignore[assignment]
