"""Learned queries that look at the cells of a picture, each of which says one thing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, Head, Norm
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

CELLS = "cells"
"""The memory in which queries find the cells."""


@part("heads")
class BoxQueries(Head):
    """Queries run through `body`, which reads the cells as the memory "cells"; each says a class, or none, and a box
    (Carion et al., DETR, 2020, sections 3.2 and A.4).

    A query begins as zeros that stand at a learned place. What the layers of the body before the last would say is
    noted as `layers`, (L, B, N, V + 5), for an objective that trains them all.
    """

    needs_grid = True

    def __init__(self, width: int, *, classes: int, body: Spec[Backbone], norm: Spec[Norm], queries: int = 100) -> None:
        super().__init__()
        self.classes = classes
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.body: Backbone = self.make("body", body, width)
        self.norm: Norm = self.make("norm", norm, width)
        self.classify = nn.Linear(width, classes + 1)
        self.box = nn.ModuleList(nn.Linear(width, to) for to in (width, width, 4))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """The logits of each class and of none, then centre x and y, width and height as shares of the picture's."""
        levels: dict[nn.Module, Tokens] = {}
        zeros = tokens.values.new_zeros(tokens.batch, *self.queries.shape)
        inside = Context(memory={CELLS: tokens}, levels=levels)
        last = self.body(Tokens(zeros, positions=self.queries[None]), inside).values
        if context is not None and context.notes is not None and len(levels) > 1:
            context.notes["layers"] = self.told(torch.stack([each.values for each in levels.values()][:-1]))
        return self.told(last)

    def told(self, values: Float[Tensor, "*L B N D"]) -> Float[Tensor, "*L B N E"]:
        """What queries say."""
        values = self.norm(values)
        first, second, third = self.box
        boxes = third(F.relu(second(F.relu(first(values))))).sigmoid()
        return torch.cat((self.classify(values), boxes), -1)
