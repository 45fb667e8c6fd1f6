"""The maps of a body made ready for queries: one that masks are said on, and some that queries look at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Position
from everyformer.convolution import resized
from everyformer.grids import as_tokens
from everyformer.registry import Part, part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

Map = Float[Tensor, "B _ _ _"]


def projected(width: int, to: int, groups: int, bias: bool = True) -> nn.Sequential:
    """GroupNorm(conv1x1(x))."""
    return nn.Sequential(nn.Conv2d(width, to, 1, bias=bias), nn.GroupNorm(groups, to))


def mixed(width: int, to: int, groups: int) -> nn.Sequential:
    """ReLU(GroupNorm(conv3x3(x)))."""
    return nn.Sequential(nn.Conv2d(width, to, 3, padding=1, bias=False), nn.GroupNorm(groups, to), nn.ReLU())


class Pixels(Part):
    """Base of pixel decoders: built with the widths of the levels, from fine to coarse, and the width `hidden`."""

    needs_grid = True
    levels: int
    """How many maps it gives for queries to look at."""

    def forward(self, maps: list[Map], context: Context | None = None) -> tuple[Map, list[Map]]:
        """The map that masks are said on, and those that queries look at, from coarse to fine."""
        raise NotImplementedError


@part("heads")
class LevelsTogether(Pixels):
    """The cells of the `levels` coarsest maps through `body` as one sequence, each standing where it stands in its own map
    and knowing which that is; finer maps are then added on their own grids (Cheng et al., Mask2Former, 2022, section 3.2.1
    and official code, the pixel decoder of Zhu et al., Deformable DETR, 2021).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        hidden: int,
        *,
        body: Spec[Backbone],
        places: Spec[Position],
        levels: int = 3,
        groups: int = 32,
    ) -> None:
        super().__init__()
        if not 0 < levels <= len(widths):
            raise ValueError(f"levels is 1 to {len(widths)}, as many as the body has; given {levels}")
        self.levels = levels
        *finer, _ = widths[: len(widths) - levels + 1]
        self.project = nn.ModuleList(projected(width, hidden, groups) for width in widths[: -levels - 1 : -1])
        self.level = nn.Embedding(levels, hidden)
        self.places: Position = self.make("places", places, hidden, 1)
        self.places.stands_in("embedding")
        self.body: Backbone = self.make("body", body, hidden)
        self.lateral = nn.ModuleList(projected(width, hidden, groups, bias=False) for width in finer)
        self.smooth = nn.ModuleList(mixed(hidden, hidden, groups) for _ in finer)
        self.cells = nn.Conv2d(hidden, hidden, 1)

    def forward(self, maps: list[Map], context: Context | None = None) -> tuple[Map, list[Map]]:
        """The map that masks are said on, and those that queries look at, from coarse to fine."""
        given = [as_tokens(project(each)) for project, each in zip(self.project, reversed(maps))]
        level = self.level(torch.arange(self.levels, device=maps[0].device))
        places = [self.places(each) + own for each, own in zip(given, level, strict=True)]
        tokens = Tokens(torch.cat([each.values for each in given], 1), positions=torch.cat(places, 1))
        grids = tuple((each.grid[0], each.grid[1]) for each in given if each.grid is not None)
        inside = (context or Context()).replace(grids=grids, levels=None)
        values = self.body(tokens, inside).values.split([each.count for each in given], 1)
        looked = [each.mT.unflatten(2, grid) for each, grid in zip(values, grids, strict=True)]
        cells = looked[-1]
        for lateral, smooth, each in zip(reversed(self.lateral), reversed(self.smooth), maps[-self.levels - 1 :: -1]):
            cells = smooth(lateral(each) + resized(cells, each.shape[2:]))
        return self.cells(cells), looked
