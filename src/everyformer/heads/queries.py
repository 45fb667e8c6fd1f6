"""Learned queries that look at the cells of a picture, those that say a box, and those that stand for a class each."""

from __future__ import annotations

from itertools import pairwise

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
class Queries(Head):
    """Queries run through `body`, which reads the cells as the memory "cells"; the answer is what became of them
    (Carion et al., DETR, 2020, section 3.2).

    What the layers of the body before the last would answer is noted as `layers`, (L, B, N, E), for an objective that
    trains them all.
    """

    needs_grid = True

    def __init__(self, width: int, *, body: Spec[Backbone], norm: Spec[Norm], queries: int = 100) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.body: Backbone = self.make("body", body, width)
        self.norm: Norm = self.make("norm", norm, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N *E"]:
        """What the queries say at the end."""
        layers = asked(self.body, self.queries, tokens)
        if context is not None and context.notes is not None:
            context.notes["layers"] = self.told(layers[:-1])
        return self.told(layers[-1])

    def told(self, values: Float[Tensor, "*L B N D"]) -> Float[Tensor, "*L B N E"]:
        """What queries say."""
        return self.norm(values)


@part("heads")
class BoxQueries(Queries):
    """Queries run through `body`, which reads the cells as the memory "cells"; each says a class, or none, and a box
    (Carion et al., DETR, 2020, sections 3.2 and A.4): the logits of each class and of none, then centre x and y, width
    and height as shares of the picture's.
    """

    def __init__(self, width: int, *, classes: int, body: Spec[Backbone], norm: Spec[Norm], queries: int = 100) -> None:
        super().__init__(width, body=body, norm=norm, queries=queries)
        self.classes = classes
        self.classify = nn.Linear(width, classes + 1)
        self.box = Perceptron(width, width, width, 4)

    def told(self, values: Float[Tensor, "*L B N D"]) -> Float[Tensor, "*L B N E"]:
        """What queries say."""
        values = super().told(values)
        return torch.cat((self.classify(values), self.box(values).sigmoid()), -1)


@part("heads")
class ClassQueries(Queries):
    """One query for each class, which looks for what that class has; the same vector finds in every one whether it is there
    (Paul et al., INTR, 2024, section 3.2).

    Where the query of a class looked is what the taps of the body's cross-attention show.
    """

    def __init__(self, width: int, *, classes: int, body: Spec[Backbone], norm: Spec[Norm]) -> None:
        super().__init__(width, body=body, norm=norm, queries=classes)
        self.presence = nn.Linear(width, 1)

    def told(self, values: Float[Tensor, "*L B N D"]) -> Float[Tensor, "*L B N"]:
        """The logit of each class."""
        return self.presence(super().told(values)).squeeze(-1)
