"""Queries that begin where a map of heat says that things are."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, MapHead, Norm, Position
from everyformer.convolution import ConvNorm, deformed, resized
from everyformer.grids import as_tokens
from everyformer.heads.queries import CELLS, Perceptron
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, take


class _Bent(nn.Conv2d):
    """A convolution whose taps stand off their places."""

    def forward(  # type: ignore[override]
        self, cells: Float[Tensor, "B D Y X"], offsets: Float[Tensor, "B E Y X"]
    ) -> Float[Tensor, "B D Y X"]:
        """The map; `offsets` are rows and columns of each tap."""
        return deformed(cells, offsets, self.weight)


class LineSnake(nn.Module):
    """The sum of a row, of a column, and of both as snakes, whose taps each stand up to a cell beside the one before (Qi et
    al., DSCNet, 2023, section 3.1, for the snakes).
    """

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.kernel = kernel
        self.row = nn.Conv2d(width, width, (1, kernel), padding=(0, kernel // 2))
        self.column = nn.Conv2d(width, width, (kernel, 1), padding=(kernel // 2, 0))
        self.bend = nn.Conv2d(width, 2 * (kernel - 1), 3, padding=1)
        self.snakes = nn.ModuleList(_Bent(width, width, side, bias=False) for side in ((1, kernel), (kernel, 1)))

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D Y X"]:
        """The map."""
        total = self.row(cells) + self.column(cells)
        for axis, (snake, steps) in enumerate(zip(self.snakes, self.bend(cells).tanh().chunk(2, 1), strict=True)):
            before, after = steps.chunk(2, 1)
            aside = torch.cat((before.flip(1).cumsum(1).flip(1), torch.zeros_like(steps[:, :1]), after.cumsum(1)), 1)
            offsets = torch.stack(
                (aside, torch.zeros_like(aside)) if axis == 0 else (torch.zeros_like(aside), aside), 2
            )
            total = total + snake(cells, offsets.flatten(1, 2))
        return total


@part("heads")
class HeatQueries(MapHead):
    """Cells of all levels, whose `places` (`positions.HeatPlaces`) say how hot they are, through `encoder`, and queries that begin at the peaks of the
    heat through `body`, which reads the cells as the memory "cells"; each says a class, or none, and a box around where it began
    (Zeng, HMPE, 2025).

    Before that each level passes rows, columns and snakes, and is made stronger where all levels together find heat. A peak
    is a cell hotter than its eight neighbours; the best `queries` by heat times the likeliest class are taken. Parts find places
    carried by the tokens. Noted are the logits of the `heat` (B, N), the `cells` (N, 4), middle and size of each as shares,
    and the `layers` of the body as in `BoxQueries`.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        encoder: Spec[Backbone],
        body: Spec[Backbone],
        norm: Spec[Norm],
        places: Spec[Position],
        queries: int = 300,
        hidden: int = 256,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes, self.queries = classes, queries
        self.project = nn.ModuleList(ConvNorm(width, hidden, kernel=1) for width in self.widths)
        self.lines = nn.ModuleList(LineSnake(hidden) for _ in self.widths)
        self.places: Any = self.make("places", places, hidden)
        self.level = nn.Embedding(len(self.widths), hidden)
        self.fuse = nn.Conv2d(len(self.widths), 1, 1)
        self.encoder: Backbone = self.make("encoder", encoder, hidden)
        self.body: Backbone = self.make("body", body, hidden)
        self.norm: Norm = self.make("norm", norm, hidden)
        self.classify = nn.Linear(hidden, classes + 1)
        self.box = Perceptron(hidden, hidden, hidden, 4)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """What the queries say at the end."""
        maps = [
            each + F.relu(line(each))
            for each, line in zip(
                (project(each) for project, each in zip(self.project, self.maps(tokens, context), strict=True)),
                self.lines,
            )
        ]
        logits = [self.places.heat(as_tokens(each)) for each in maps]
        size = maps[0].shape[2:]
        everywhere = self.fuse(torch.cat([resized(each, size) for each in logits], 1)).sigmoid()
        levels = [as_tokens(each * (1 + resized(everywhere, each.shape[2:]))) for each in maps]
        own = self.level(torch.arange(len(levels), device=maps[0].device))
        heats = [each.sigmoid() for each in logits]
        carried = [self.places.at(level, heat) + which for level, heat, which in zip(levels, heats, own, strict=True)]
        cells = Tokens(torch.cat([each.values for each in levels], 1), positions=torch.cat(carried, 1))
        grids = tuple((each.grid[0], each.grid[1]) for each in levels if each.grid is not None)
        cells = cells.update(self.encoder(cells, Context(grids=grids)).values)
        chosen = self.chosen(heats, cells.values)
        where = torch.cat([middles(grid, cells.values) for grid in grids])
        layers = self.asked(cells, chosen)
        begin = take(where[None], chosen)[..., :2]
        if context is not None and context.notes is not None:
            context.notes |= {
                "heat": torch.cat([each.flatten(1) for each in logits], 1), "cells": where,
                "layers": self.told(layers[:-1], begin),
            }  # fmt: skip
        return self.told(layers[-1], begin)

    def chosen(self, heats: list[Float[Tensor, "B 1 _ _"]], values: Float[Tensor, "B M D"]) -> Int[Tensor, "B N"]:
        """The cells at which queries begin."""
        peaks = torch.cat([(each * (each == F.max_pool2d(each, 3, 1, 1))).flatten(1) for each in heats], 1)
        likely = self.classify(self.norm(values)).softmax(-1)[..., :-1].amax(-1)
        return (peaks * likely).topk(min(self.queries, peaks.shape[1]), 1).indices

    def asked(self, cells: Tokens, chosen: Int[Tensor, "B N"]) -> Float[Tensor, "L B N D"]:
        """What each layer of the body makes of the queries."""
        levels: dict[nn.Module, Tokens] = {}
        queries = Tokens(take(cells.values, chosen), positions=take(cells.places, chosen))
        last = self.body(queries, Context(memory={CELLS: cells}, levels=levels))
        return torch.stack([*(each.values for each in levels.values())][:-1] + [last.values])

    def told(self, values: Float[Tensor, "*L B N D"], begin: Float[Tensor, "B N 2"]) -> Float[Tensor, "*L B N E"]:
        """What queries say that began there."""
        values = self.norm(values)
        boxes = (self.box(values) + F.pad(begin.clamp(1e-3, 1 - 1e-3).logit(), (0, 2))).sigmoid()
        return torch.cat((self.classify(values), boxes), -1)


def middles(grid: tuple[int, int], like: Tensor) -> Float[Tensor, "N 4"]:
    """The middle (x, y) and the size of each cell of a grid, as shares of the sides."""
    rows, columns = ((torch.arange(side, device=like.device) + 0.5) / side for side in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return (
        torch.stack((x, y, torch.full_like(x, 1 / grid[1]), torch.full_like(x, 1 / grid[0])), -1)
        .flatten(0, 1)
        .to(like.dtype)
    )
