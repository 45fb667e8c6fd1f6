"""Learned queries that look at the cells of a picture, each of which says one thing: a box, or a mask."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, Head, MapHead, Norm
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

CELLS = "cells"
"""The memory in which queries find the cells."""


def asked(body: Backbone, queries: Float[Tensor, "N D"], cells: Tokens) -> Float[Tensor, "L B N D"]:
    """What each layer of a body makes of queries, which begin as zeros that stand at learned places."""
    levels: dict[nn.Module, Tokens] = {}
    zeros = cells.values.new_zeros(cells.batch, *queries.shape)
    last = body(Tokens(zeros, positions=queries[None]), Context(memory={CELLS: cells}, levels=levels))
    return torch.stack([*(each.values for each in levels.values())][:-1] + [last.values])


class Perceptron(nn.ModuleList):
    """Linear maps with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, values: Float[Tensor, "*n D"]) -> Float[Tensor, "*n E"]:
        """What the last map gives."""
        *others, last = self
        for each in others:
            values = F.relu(each(values))
        return last(values)


@part("heads")
class BoxQueries(Head):
    """Queries run through `body`, which reads the cells as the memory "cells"; each says a class, or none, and a box
    (Carion et al., DETR, 2020, sections 3.2 and A.4).

    What the layers of the body before the last would say is noted as `layers`, (L, B, N, V + 5), for an objective that
    trains them all.
    """

    needs_grid = True

    def __init__(self, width: int, *, classes: int, body: Spec[Backbone], norm: Spec[Norm], queries: int = 100) -> None:
        super().__init__()
        self.classes = classes
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.body: Backbone = self.make("body", body, width)
        self.norm: Norm = self.make("norm", norm, width)
        self.classify = nn.Linear(width, classes + 1)
        self.box = Perceptron(width, width, width, 4)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """The logits of each class and of none, then centre x and y, width and height as shares of the picture's."""
        layers = asked(self.body, self.queries, tokens)
        if context is not None and context.notes is not None:
            context.notes["layers"] = self.told(layers[:-1])
        return self.told(layers[-1])

    def told(self, values: Float[Tensor, "*L B N D"]) -> Float[Tensor, "*L B N E"]:
        """What queries say."""
        values = self.norm(values)
        return torch.cat((self.classify(values), self.box(values).sigmoid()), -1)


@part("heads")
class MaskQueries(MapHead):
    """Queries that read the last level; each says a class, or none, and what its mask has in common with a cell of a map
    that all levels are summed into from coarse to fine (Cheng et al., MaskFormer, 2021, section 3.3).

    The answer is the log of p(class) p(mask), summed over the queries (section 3.4). `classes` (L, B, N, V + 1) and
    `masks` (L, B, N, Y, X), the logits of every layer of the body, are noted for an objective that matches them with
    what is there. `hidden` is the width of queries and maps, `groups` are those of the norms of the maps.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        body: Spec[Backbone],
        norm: Spec[Norm],
        queries: int = 100,
        hidden: int = 256,
        groups: int = 32,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes = classes
        *finer, last = self.widths
        self.first = _mixed(last, hidden, groups)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.GroupNorm(groups, hidden)) for width in finer
        )
        self.smooth = nn.ModuleList(_mixed(hidden, hidden, groups) for _ in finer)
        self.cells = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.project = nn.Conv2d(last, hidden, 1)
        self.queries = nn.Parameter(torch.randn(queries, hidden))
        self.body: Backbone = self.make("body", body, hidden)
        self.norm: Norm = self.make("norm", norm, hidden)
        self.classify = nn.Linear(hidden, classes + 1)
        self.mask = Perceptron(hidden, hidden, hidden, hidden)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        *finer, last = self.maps(tokens, context)
        layers = asked(self.body, self.queries, as_tokens(self.project(last)))
        noting = context is not None and context.notes is not None
        values = self.norm(layers if noting else layers[-1:])
        classes = self.classify(values)
        masks = torch.einsum("lbnd,bdyx->lbnyx", self.mask(values), self.fused(finer, last))
        if noting:
            context.notes |= {"classes": classes, "masks": masks}
        shares = torch.einsum("bnv,bnyx->bvyx", classes[-1].softmax(-1)[..., :-1], masks[-1].sigmoid())
        return shares.clamp(min=torch.finfo(shares.dtype).tiny).log()

    def fused(self, finer: list[Tensor], last: Tensor) -> Float[Tensor, "B D Y X"]:
        """All levels on the finest grid."""
        cells = self.first(last)
        for lateral, smooth, each in zip(reversed(self.lateral), reversed(self.smooth), reversed(finer), strict=True):
            cells = smooth(lateral(each) + F.interpolate(cells, each.shape[2:]))
        return self.cells(cells)


def _mixed(width: int, to: int, groups: int) -> nn.Sequential:
    """ReLU(GroupNorm(conv3x3(x)))."""
    return nn.Sequential(nn.Conv2d(width, to, 3, padding=1, bias=False), nn.GroupNorm(groups, to), nn.ReLU())
