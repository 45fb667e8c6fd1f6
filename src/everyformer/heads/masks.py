"""Learned queries, each of which says a class, or none, and a mask."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, MapHead, Norm, normed
from everyformer.convolution import resized
from everyformer.grids import as_tokens
from everyformer.heads.pixels import Pixels, mixed, projected
from everyformer.heads.queries import CELLS, Perceptron, asked
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

Said = tuple[Float[Tensor, "*L B N E"], Float[Tensor, "*L B N Y X"]]
"""The logits of the classes of queries, the last of them for none, and those of their masks."""


LEAST = 1e-20
"""A share below this counts as none: what is one over it, summed over a map, is still a number."""


class MaskSet(MapHead):
    """Base: what is a pixel by what all queries say (Cheng et al., MaskFormer, 2021, section 3.4).

    `classes` (L, B, N, V + 1) and `masks` (L, B, N, Y, X), the logits after every layer, are noted for an objective that
    matches them with what is there.
    """

    classes: int

    def odds(self, masks: Float[Tensor, "B N Y X"]) -> Float[Tensor, "B N Y X"]:
        """How likely each pixel is in each mask."""
        return masks.sigmoid()

    def pixels_of(self, layers: Said, context: Context | None) -> Float[Tensor, "B V Y X"]:
        """The log of p(class) p(mask) in the last layer, summed over the queries; all layers are noted."""
        classes, masks = layers
        if context is not None and context.notes is not None:
            context.notes |= {"classes": classes, "masks": masks}
        shares = torch.einsum("bnv,bnyx->bvyx", classes[-1].softmax(-1)[..., :-1], self.odds(masks[-1]))
        return shares.clamp(min=max(LEAST, torch.finfo(shares.dtype).tiny)).log()


def common(vectors: Float[Tensor, "*L B N D"], cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "*L B N Y X"]:
    """What vectors have in common with each cell of a map."""
    return torch.einsum("...bnd,bdyx->...bnyx", vectors, cells)


@part("heads")
class MaskQueries(MaskSet):
    """Queries that read the last level; each says a class, or none, and what its mask has in common with a cell of a map
    that all levels are summed into from coarse to fine (Cheng et al., MaskFormer, 2021, section 3.3).

    `hidden` is the width of queries and maps, `groups` are those of the norms of the maps.
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
        self.norm: Norm = self.make("norm", norm, hidden)
        self.classify = nn.Linear(hidden, classes + 1)
        self.mask = Perceptron(hidden, hidden, hidden, hidden)
        *finer, last = self.widths
        self.first = mixed(last, hidden, groups)
        self.lateral = nn.ModuleList(projected(width, hidden, groups, bias=False) for width in finer)
        self.smooth = nn.ModuleList(mixed(hidden, hidden, groups) for _ in finer)
        self.cells = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.project = nn.Conv2d(last, hidden, 1)
        self.queries = nn.Parameter(torch.randn(queries, hidden))
        self.body: Backbone = self.make("body", body, hidden)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        *finer, last = self.maps(tokens, context)
        layers = asked(self.body, self.queries, as_tokens(self.project(last)))
        noting = context is not None and context.notes is not None
        values = self.norm(layers if noting else layers[-1:])
        masks = common(self.mask(values), self.fused(finer, last))
        return self.pixels_of((self.classify(values), masks), context)

    def fused(self, finer: list[Tensor], last: Tensor) -> Float[Tensor, "B D Y X"]:
        """All levels on the finest grid."""
        cells = self.first(last)
        for lateral, smooth, each in zip(reversed(self.lateral), reversed(self.smooth), reversed(finer), strict=True):
            cells = smooth(lateral(each) + F.interpolate(cells, each.shape[2:]))
        return self.cells(cells)


Seen = Callable[[Float[Tensor, "B N Y X"], Tokens], dict[str, Bool[Tensor, "B N M"]]]
"""Which cells of a memory each query may see, by the masks that they said last; all where it is not said."""


def everywhere(masks: Float[Tensor, "B N Y X"], memory: Tokens) -> dict[str, Bool[Tensor, "B N M"]]:
    """All cells."""
    return {}


def inside(masks: Float[Tensor, "B N Y X"], memory: Tokens) -> dict[str, Bool[Tensor, "B N M"]]:
    """The cells that are in the mask of each query with at least even odds, all where there are none."""
    assert memory.grid is not None
    likely = (resized(masks, memory.grid) >= 0).flatten(2)
    return {CELLS: likely | ~likely.any(-1, keepdim=True)}


class _Looking(MapHead):
    """Base: queries that say a mask before the first of the `blocks` and after each, and look, in each, at one of the maps
    that `pixels` gives, in turn from coarse to fine.

    The blocks read the memory "cells". `hidden` is the width of queries and maps; `level_norm`, if any, stands before each
    level of the body.
    """

    seen: Seen = staticmethod(everywhere)

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        pixels: Spec[Pixels],
        blocks: tuple[Spec[Backbone], ...],
        norm: Spec[Norm],
        queries: int = 100,
        hidden: int = 256,
        level_norm: Spec[Norm] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.norm: Norm = self.make("norm", norm, hidden)
        self.mask = Perceptron(hidden, hidden, hidden, hidden)
        self.level_norm = self.for_levels("level_norm", level_norm)
        self.pixels: Pixels = self.make("pixels", pixels, self.widths, hidden)
        self.level = nn.Embedding(self.pixels.levels, hidden)
        self.queries = nn.Embedding(queries, hidden)
        self.places = nn.Embedding(queries, hidden)
        self.blocks = self.make("blocks", blocks, hidden)

    def looked(
        self, tokens: Tokens, context: Context | None
    ) -> tuple[Float[Tensor, "L B N D"], Float[Tensor, "L B N Y X"]]:
        """The queries before the first block and after each, and the logits of the masks that they said there."""
        maps = normed(self.level_norm, self.maps(tokens, context))
        cells, looked = self.pixels(maps, context)
        level = self.level(torch.arange(len(looked), device=cells.device))
        memories = [as_tokens(each + own[:, None, None]) for each, own in zip(looked, level, strict=True)]
        every = torch.arange(self.queries.num_embeddings, device=cells.device)
        queries = Tokens(self.queries(every).expand(cells.shape[0], -1, -1), positions=self.places(every)[None])
        values, masks = [queries.values], [self.masked(queries.values, cells)]
        for block, memory in zip(self.blocks, cycle(memories)):
            queries = block(queries, Context(memory={CELLS: memory}, seen=self.seen(masks[-1].detach(), memory)))
            values.append(queries.values)
            masks.append(self.masked(queries.values, cells))
        return torch.stack(values), torch.stack(masks)

    def masked(self, queries: Float[Tensor, "B N D"], cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B N Y X"]:
        """The logits of the masks that queries say."""
        return common(self.mask(self.norm(queries)), cells)


@part("heads")
class MaskedStates(_Looking):
    """What became of queries that look only inside the masks that they said last (Cheng et al., Mask2Former, 2022,
    section 3.2), without a class; `masks` (L, B, N, Y, X), the logits after every layer, are noted.
    """

    seen: Seen = staticmethod(inside)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The queries at the end."""
        values, masks = self.looked(tokens, context)
        if context is not None and context.notes is not None:
            context.notes["masks"] = masks
        return values[-1]


@part("heads")
class LevelQueries(_Looking, MaskSet):
    """Queries that say a class and a mask before the first of the `blocks` and after each, and look, in each, at one of the
    maps that `pixels` gives, in turn from coarse to fine: at all its cells.

    The blocks read the memory "cells". `hidden` is the width of queries and maps; `level_norm`, if any, stands before each
    level of the body.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        pixels: Spec[Pixels],
        blocks: tuple[Spec[Backbone], ...],
        norm: Spec[Norm],
        queries: int = 100,
        hidden: int = 256,
        level_norm: Spec[Norm] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(
            widths, pixels=pixels, blocks=blocks, norm=norm, queries=queries, hidden=hidden, level_norm=level_norm,
            levels=levels,
        )  # fmt: skip
        self.classes = classes
        self.classify = nn.Linear(hidden, classes + 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the map that masks are said on."""
        values, masks = self.looked(tokens, context)
        return self.pixels_of((self.classify(self.norm(values)), masks), context)


@part("heads")
class MaskedQueries(LevelQueries):
    """Queries that look only inside the masks that they said last, at maps in turn from coarse to fine (Cheng et al.,
    Mask2Former, 2022, section 3.2, equation 3). A query whose mask is empty looks at all cells.
    """

    seen: Seen = staticmethod(inside)
