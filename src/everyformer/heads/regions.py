"""Regions of a picture in which there is something: proposed, then looked at and moved several times."""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from everyformer.boxes import centred, corners, kept, regions_of_levels
from everyformer.context import Context
from everyformer.contracts import MapHead
from everyformer.errors import DoesNotFit
from everyformer.heads.heat import middles
from everyformer.heads.proposals import Looking, Map, Proposals, precise
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, take

GIVEN = "boxes"
"""The memory in which regions are given that are looked at as well: corners as shares, and which are real."""
STEPS = (10.0, 10.0, 5.0, 5.0)
"""What moves of the middle and of the size are counted in: tenths and fifths, ever finer from look to look."""


@part("heads")
class Regions(MapHead):
    """`proposals` say where things may be, and each of `looks` in turn whether there is one and how to move the region
    (Cai and Vasconcelos, Cascade R-CNN, 2018; Wu et al., GRiT, 2022: things of all kinds are one).

    The best `before` cells of each level, then `count` regions of which no two have more than `same` in common, are looked
    at, on the finest `shown` maps on a grid of `side` cells. The answer is, for each, the logits of a thing and of none, and
    its box, centre and size as shares: as of `BoxQueries` of one class. How sure it is is the root of what the proposal and
    the mean of the looks say; it is not at all of regions that have more than `apart` in common with a surer one.

    With the memory "boxes" in the context (corners; its mask says which are real) those are looked at as well. Noted are the
    `heat` (B, M), `distances` (B, M, 4) and `cells` (M, 4) of the proposals, and of each look the `boxes` (K, B, N, 4) that
    it was given and what it said of them, `looks` (K, B, N, 6), `real` being those (B, N) that count.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        proposals: Spec[Proposals],
        looks: tuple[Spec[Looking], ...],
        side: int = 7,
        shown: int = 3,
        before: int = 1000,
        count: int = 256,
        same: float = 0.9,
        apart: float = 0.5,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        if len({*self.widths}) > 1:
            raise DoesNotFit(
                f"levels of the widths {self.widths}; regions are looked at on maps of one width, as "
                "backbones.SimplePyramid gives",
                "levels",
            )
        self.side, self.shown, self.before, self.count, self.same, self.apart = side, shown, before, count, same, apart
        self.proposals: Proposals = self.make("proposals", proposals, self.widths[0], len(self.widths))
        self.looks = self.make("looks", looks, self.widths[0], side)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N 6"]:
        """What is said of each region at the end."""
        context = context or Context()
        maps = self.maps(tokens, context)
        heat, distances = self.proposals(maps)
        cells = torch.cat([middles((each.shape[2], each.shape[3]), precise(each)) for each in maps])
        boxes, hope, real = self.first(heat, around(cells, distances.detach()), [each[0, 0].numel() for each in maps])
        if GIVEN in context.memory:
            given = context.memory[GIVEN]
            boxes = torch.cat((boxes, given.values), 1)
            there = torch.ones_like(given.values[..., 0]) if given.mask is None else given.mask.to(boxes.dtype)
            hope, real = torch.cat((hope, there), 1), torch.cat((real, there > 0), 1)
        looked, said = [], []
        for number, look in enumerate(self.looks):
            boxes = boxes.detach()
            looked.append(boxes)
            shown = self.look(maps, boxes, self.side)
            said.append(precise(look(shown.flatten(0, 1))).unflatten(0, boxes.shape[:2]))
            boxes = moved(boxes, said[-1][..., 2:], number).clamp(0, 1)
        sure = torch.stack([each[..., :2].softmax(-1)[..., 0] for each in said]).mean(0)
        sure = (sure * hope).clamp(min=1e-12).sqrt() * real
        sure = (sure * kept(boxes, sure, self.apart)).clamp(1e-6, 1 - 1e-6)
        if context.notes is not None:
            context.notes |= {
                "heat": heat, "distances": distances, "cells": cells, "boxes": torch.stack(looked),
                "looks": torch.stack(said), "real": real,
            }  # fmt: skip
        return torch.cat((torch.stack((sure.logit(), torch.zeros_like(sure)), -1), centred(boxes)), -1)

    def look(self, maps: list[Map], boxes: Float[Tensor, "B N 4"], side: int) -> Float[Tensor, "B N C side side"]:
        """What regions show on a grid of `side` cells a side; the maps learn from each look by its part of all."""
        seen = regions_of_levels(maps[: self.shown], boxes.to(maps[0].dtype), side)
        return torch.lerp(seen.detach(), seen, 1 / len(self.looks))

    def first(
        self, heat: Float[Tensor, "B M"], boxes: Float[Tensor, "B M 4"], counts: list[int]
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """The regions that are looked at, how likely they are, and which of them count; levels have so many cells."""
        hope = heat.sigmoid().sqrt()
        ends = list(accumulate(counts))
        best = [
            hope[:, end - count : end].topk(min(self.before, count), 1).indices + end - count
            for end, count in zip(ends, counts, strict=True)
        ]
        chosen = torch.cat(best, 1)
        hope, boxes = take(hope, chosen), take(boxes, chosen)
        ranked = torch.where(kept(boxes, hope.detach(), self.same), hope, -1.0)
        order = ranked.topk(min(self.count, ranked.shape[1]), 1).indices
        return take(boxes, order).clamp(0, 1), take(hope, order), take(ranked, order) >= 0


def around(cells: Float[Tensor, "#M 4"], distances: Float[Tensor, "B M 4"]) -> Float[Tensor, "B M 4"]:
    """The boxes (corners) of which the sides are so many cells from the middles of cells."""
    middle, size = cells.split(2, -1)
    first, last = distances.split(2, -1)
    return torch.cat((middle - first * size, middle + last * size), -1)


def moved(boxes: Float[Tensor, "*n 4"], moves: Float[Tensor, "*n 4"], number: int) -> Float[Tensor, "*n 4"]:
    """Boxes (corners) moved as look `number` says: the middle by parts of their sizes, the sizes by factors, of at most 62.5
    (Girshick et al., R-CNN, 2014, appendix C).
    """
    middle, size = centred(boxes).split(2, -1)
    by, grow = (moves / _steps(moves, number)).split(2, -1)
    return corners(torch.cat((middle + by * size, size * grow.clamp(max=math.log(1000 / 16)).exp()), -1))


def moves_to(boxes: Float[Tensor, "*n 4"], wanted: Float[Tensor, "*n 4"], number: int) -> Float[Tensor, "*n 4"]:
    """What look `number` is to say of boxes (corners), so that they become the `wanted` ones; the inverse of `moved`."""
    least = 1e-4
    middle, size = centred(boxes).split(2, -1)
    to_middle, to_size = centred(wanted).split(2, -1)
    size, to_size = size.clamp(min=least), to_size.clamp(min=least)
    return torch.cat(((to_middle - middle) / size, (to_size / size).log()), -1) * _steps(boxes, number)


def _steps(like: Tensor, number: int) -> Float[Tensor, "4"]:
    return torch.tensor(STEPS, device=like.device, dtype=like.dtype) * (number + 1)
