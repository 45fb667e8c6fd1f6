"""What helps a head to learn and is gone in use: the last level's view of a picture, seen again by earlier ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Head, MapHead
from everyformer.convolution import deformed
from everyformer.grids import as_map
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("heads")
class ContextReplay(MapHead):
    """The answer of `head`; where an objective asks for notes, what each cell is by the maps of earlier `levels`, gathered in
    the ways that the last one says, as 'maps' (Tang et al., VPNeXt, 2025, visual context replay).

    Near by, by a convolution off its places, whose offsets the last level gives to all; and from everywhere, by the
    affinities softmax(q k^T / sqrt(K)) of the last level's cells. Nothing of it is computed where nobody asks.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        head: Spec[MapHead],
        levels: tuple[int, ...] | None = None,
        kernel: int = 3,
        inner: int = 64,
    ) -> None:
        super().__init__(widths, levels)
        last = widths[-1]
        self.head: Head = self.make("head", head, widths)
        self.offsets = nn.Conv2d(last, 2 * kernel * kernel, kernel, padding=kernel // 2)
        self.offsets.own_init = True  # type: ignore[assignment]
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]
        self.asks, self.shows = nn.Linear(last, inner), nn.Linear(last, inner)
        self.near = nn.ModuleList(nn.Conv2d(width, width, kernel, bias=False) for width in self.widths)
        self.far = nn.ModuleList(nn.Linear(width, width) for width in self.widths)
        self.told = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in (*self.widths, *self.widths))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tensor:
        """The answer of the head."""
        if context is not None and context.notes is not None:
            replayed = self.replayed(as_map(tokens), self.maps(tokens, context))
            context.notes["maps"] = torch.stack([told(each) for told, each in zip(self.told, replayed, strict=True)])
        return self.head(tokens, context)

    def replayed(
        self, last: Float[Tensor, "B D Y X"], maps: list[Float[Tensor, "B C Y X"]]
    ) -> list[Float[Tensor, "B C Y X"]]:
        """The maps gathered near by, then from everywhere."""
        offsets, cells = self.offsets(last), last.flatten(2).mT
        near = [deformed(each, offsets, conv.weight) for conv, each in zip(self.near, maps, strict=True)]
        asks, shows = self.asks(cells), self.shows(cells)
        values = [linear(each.flatten(2).mT) for linear, each in zip(self.far, maps, strict=True)]
        far = [F.scaled_dot_product_attention(asks, shows, each) for each in values]
        return near + [each.mT.unflatten(2, last.shape[2:]) for each in far]
