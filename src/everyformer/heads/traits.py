"""What each pixel is, and what is true of the whole, from one map."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, Head, MapHead
from everyformer.convolution import ConvNorm, resized
from everyformer.dropout import Dropout
from everyformer.grids import as_map
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("heads")
class Shuffled(Head):
    """A convolution to `hidden` and a linear map of each cell to the logits of `factor`^2 finer ones (Shi et al., 2016, section
    2.2); between the two another convolution to `inner` channels, where there are any.
    """

    needs_grid = True

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        hidden: int = 1024,
        inner: int | None = None,
        factor: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes, self.factor = classes, factor
        self.enter = ConvNorm(width, hidden)
        self.dropout = Dropout(dropout) if dropout else None
        self.inner = None if inner is None else ConvNorm(hidden, inner)
        self.classify = nn.Conv2d(inner or hidden, classes * factor**2, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each pixel."""
        cells = self.enter(as_map(tokens))
        cells = cells if self.dropout is None else self.dropout(cells)
        return F.pixel_shuffle(self.classify(cells if self.inner is None else self.inner(cells)), self.factor)


@part("heads")
class FigureAndClass(Head):
    """The mean of all cells as one token of width `hidden` through `body`, then linear maps to each of `widths` with norm and
    ReLU; of what comes out one linear map says a figure and another the logits of `classes`: (B, 1 + V).
    """

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        body: Spec[Backbone],
        hidden: int = 512,
        widths: tuple[int, ...] = (1024, 512),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout) if dropout else None
        self.enter = nn.Linear(width, hidden)
        self.body: Backbone = self.make("body", body, hidden)
        self.maps = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise((hidden, *widths)))
        self.norms = nn.ModuleList(nn.LayerNorm(each) for each in widths)
        self.figure, self.classify = nn.Linear((hidden, *widths)[-1], 1), nn.Linear((hidden, *widths)[-1], classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V"]:
        """The figure, then the logits."""
        values = tokens.mean(tokens.prefix)
        values = values if self.dropout is None else self.dropout(values)
        values = self.body(Tokens(self.enter(values)[:, None]), Context()).values[:, 0]
        for i, (linear, norm) in enumerate(zip(self.maps, self.norms, strict=True)):
            values = F.relu(norm(linear(values if not i or self.dropout is None else self.dropout(values))))
        return torch.cat((self.figure(values), self.classify(values)), -1)


@part("heads")
class DeepMaps(MapHead):
    """The answer of `head` on the last of its levels; where an objective asks for notes, what the heads `beside` it say on those
    before, as fine as the answer, as `maps` (L, B, V, Y, X) (Lee et al., Deeply-Supervised Nets, 2015).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        head: Spec[Head],
        beside: tuple[Spec[Head], ...] = (),
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        if len(self.widths) != len(beside) + 1:
            raise ValueError(f"{len(self.widths)} levels; give a head beside for all but the last, not {len(beside)}")
        self.head: Head = self.make("head", head, self.widths[-1])
        self.beside = nn.ModuleList(
            self.make(f"beside.{i}", each, width) for i, (each, width) in enumerate(zip(beside, self.widths))
        )

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each pixel."""
        *earlier, last = self.read(tokens, context)
        said = self.head(last, context)
        if self.beside and context is not None and context.notes is not None:
            maps = [head(each) for head, each in zip(self.beside, earlier, strict=True)]
            context.notes["maps"] = torch.stack([resized(each, said.shape[2:]) for each in maps])
        return said
