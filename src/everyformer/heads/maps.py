"""What each cell of a picture is, from the maps of one level or of several: (B, classes, Y, X), the task resizes it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Head, MapHead, Mixer, Norm, mix, normed
from everyformer.convolution import ConvNorm, resized
from everyformer.dropout import Dropout
from everyformer.errors import BadInput, DoesNotFit
from everyformer.grids import as_cells, as_map, as_tokens
from everyformer.heads.pixels import projected
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens
from everyformer.warps import sent_back


@part("heads")
class LinearDecoder(Head):
    """A linear map of every cell of the last level (Strudel et al., Segmenter, 2021, section 3.2, "linear")."""

    needs_grid = True

    def __init__(self, width: int, *, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell."""
        return self.classify(as_map(tokens))


@part("heads")
class MaskTransformer(Head):
    """Learned class tokens run through `body` with the cells; a class's mask is its cosine with each cell, normalised
    over the classes (Strudel et al., Segmenter, 2021, section 3.2 and official code).
    """

    needs_grid = True

    def __init__(self, width: int, *, classes: int, body: Spec[Backbone], norm: Spec[Norm]) -> None:
        super().__init__()
        self.classes = classes
        self.project = nn.Linear(width, width)
        self.queries = nn.Parameter(torch.randn(classes, width) * 0.02)
        self.body: Backbone = self.make("body", body, width)
        self.cells = nn.Parameter(torch.randn(width, width) * width**-0.5)
        self.named = nn.Parameter(torch.randn(width, width) * width**-0.5)
        self.norm: Norm = self.make("norm", norm, classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell."""
        cells = as_cells(tokens)
        values = torch.cat((self.project(cells.flatten(1, 2)), self.queries.expand(tokens.batch, -1, -1)), 1)
        values, queries = self.body(Tokens(values), Context()).values.tensor_split([-self.classes], 1)
        queries = F.normalize(queries @ self.named, dim=-1)
        logits = self.norm(F.normalize(values @ self.cells, dim=-1) @ queries.mT)
        return logits.mT.unflatten(2, cells.shape[1:3])


@part("heads")
class MLPDecoder(MapHead):
    """Each level through a linear map to `hidden`, all resized to the finest, fused by another (Xie et al., SegFormer,
    2021, equation 4); batch norm and ReLU after the fusion, as in the official code.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        hidden: int = 256,
        dropout: float = 0.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes = classes
        self.project = nn.ModuleList(nn.Conv2d(width, hidden, 1) for width in self.widths)
        self.fuse = ConvNorm(hidden * len(self.widths), hidden, kernel=1)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Conv2d(hidden, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        maps = [project(each) for project, each in zip(self.project, self.maps(tokens, context), strict=True)]
        fused = self.fuse(torch.cat([resized(each, maps[0].shape[2:]) for each in reversed(maps)], 1))
        return self.classify(fused if self.dropout is None else self.dropout(fused))


@part("heads")
class AttentiveDecoder(MapHead):
    """Each level through a body of its own, all resized to the finest and fused by a linear map, batch norm and ReLU
    (Yu et al., EDAFormer, 2024, section 3.2).

    `bodies` are those of the levels, the finest first.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        bodies: tuple[Spec[Backbone], ...],
        hidden: int = 256,
        dropout: float = 0.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        if len(bodies) != len(self.widths):
            raise ValueError(f"expected a body for each of {len(self.widths)} levels; given {len(bodies)}")
        self.classes = classes
        self.bodies = nn.ModuleList(
            self.make(f"bodies.{i}", body, width) for i, (body, width) in enumerate(zip(bodies, self.widths))
        )
        self.fuse = ConvNorm(sum(self.widths), hidden, kernel=1)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Conv2d(hidden, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        inside = (context or Context()).replace(levels=None)
        maps = [as_map(body(each, inside)) for body, each in zip(self.bodies, self.read(tokens, context), strict=True)]
        fused = self.fuse(torch.cat([resized(each, maps[0].shape[2:]) for each in reversed(maps)], 1))
        return self.classify(fused if self.dropout is None else self.dropout(fused))


@part("heads")
class MixedLevels(MapHead):
    """All levels side by side on the finest grid, brought to `hidden`, where `mixer` adds what its cells make of each other:
    Light-Ham, where that is a Hamburger (Guo et al., SegNeXt, 2022, section 3.2 and official code).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        mixer: Spec[Mixer],
        hidden: int = 256,
        groups: int = 32,
        dropout: float = 0.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes = classes
        self.squeeze = projected(sum(self.widths), hidden, groups, bias=False)
        self.mixer: Mixer = self.make("mixer", mixer, hidden)
        self.norm = nn.GroupNorm(groups, hidden)
        self.align = projected(hidden, hidden, groups, bias=False)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Conv2d(hidden, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        maps = self.maps(tokens, context)
        cells = F.relu(self.squeeze(torch.cat([resized(each, maps[0].shape[2:]) for each in maps], 1)))
        update = mix(self.mixer, as_tokens(cells), (context or Context()).replace(levels=None))
        cells = F.relu(cells + self.norm(update.mT.unflatten(2, cells.shape[2:])))
        cells = F.relu(self.align(cells))
        return self.classify(cells if self.dropout is None else self.dropout(cells))


@part("heads")
class UPerHead(MapHead):
    """Pooled views of the last level, then sums from coarse to fine, and a fusion of all levels on the finest
    (Xiao et al., UPerNet, 2018, section 3.1; Zhao et al., PSPNet, 2017, section 3.2, for the pooling).

    `pools` are the sides of the pooled views; `norm`, if any, stands before each level (Liu et al., Swin, their code).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        hidden: int = 512,
        pools: tuple[int, ...] = (1, 2, 3, 6),
        norm: Spec[Norm] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes, self.pools = classes, pools
        *finer, last = self.widths
        self.norm = self.for_levels("norm", norm)
        self.views = nn.ModuleList(ConvNorm(last, hidden, kernel=1) for _ in pools)
        self.bottleneck = ConvNorm(last + len(pools) * hidden, hidden)
        self.lateral = nn.ModuleList(ConvNorm(width, hidden, kernel=1) for width in finer)
        self.smooth = nn.ModuleList(ConvNorm(hidden, hidden) for _ in finer)
        self.fuse = ConvNorm(len(self.widths) * hidden, hidden)
        self.classify = nn.Conv2d(hidden, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest level."""
        *finer, last = normed(self.norm, self.maps(tokens, context))
        size = last.shape[2:]
        views = [resized(view(F.adaptive_avg_pool2d(last, side)), size) for view, side in zip(self.views, self.pools)]
        merged = [self.bottleneck(torch.cat([last, *views], 1))]
        for lateral, each in zip(reversed(self.lateral), reversed(finer), strict=True):
            merged.append(lateral(each) + resized(merged[-1], each.shape[2:]))
        coarse, *fine = merged
        levels = [smooth(each) for smooth, each in zip(self.smooth, reversed(fine), strict=True)] + [coarse]
        return self.classify(self.fuse(torch.cat([resized(each, levels[0].shape[2:]) for each in levels], 1)))


@part("heads")
class PlainUPerHead(UPerHead):
    """The same on four levels of a body of one grid, made four times as fine, twice as fine, kept, and half as fine
    (Bao et al., BEiT, 2022, their code).
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        hidden: int = 512,
        pools: tuple[int, ...] = (1, 2, 3, 6),
        norm: Spec[Norm] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, classes=classes, hidden=hidden, pools=pools, norm=norm, levels=levels)
        if len(self.widths) != 4:
            raise DoesNotFit(f"PlainUPerHead reads 4 levels; given {len(self.widths)}: say which by `levels`", "levels")
        first, second, *_ = self.widths
        self.fourfold = nn.Sequential(
            nn.ConvTranspose2d(first, first, 2, 2),
            nn.BatchNorm2d(first),
            nn.GELU(),
            nn.ConvTranspose2d(first, first, 2, 2),
        )
        self.twofold = nn.ConvTranspose2d(second, second, 2, 2)

    def maps(self, tokens: Tokens, context: Context | None) -> list[Float[Tensor, "B C Y X"]]:
        """The four levels, each on its own grid."""
        first, second, third, last = super().maps(tokens, context)
        if min(last.shape[2:]) < 2:
            raise BadInput(
                f"PlainUPerHead halves a grid of {tuple(last.shape[2:])} cells; give pictures of 2 patches a side or more"
            )
        return [self.fourfold(first), self.twofold(second), third, F.max_pool2d(last, 2)]


@part("heads")
class UShaped(MapHead):
    """From the last level up, each time twice as fine, the level of that grid beside it, then two convolutions
    (Ronneberger et al., U-Net, 2015, section 2; Chen et al., TransUNet, 2021, section 3.2).

    `hidden` are the widths on the way; beyond the finest level nothing stands beside. `first` is the width of a
    convolution before it all; `kernel` is that of the last one.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        hidden: tuple[int, ...] = (256, 128, 64, 16),
        first: int | None = None,
        kernel: int = 1,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes = classes
        *beside, width = self.widths
        if len(beside) > len(hidden):
            raise ValueError(f"{len(self.widths)} levels and {len(hidden)} steps up; give one step less than levels")
        beside = [*beside[::-1], *[0] * (len(hidden) - len(beside))]
        self.first = None if first is None else ConvNorm(width, first)
        before = [first or width, *hidden]
        self.up = nn.ModuleList(
            nn.ModuleList((ConvNorm(below + skip, to), ConvNorm(to, to)))
            for below, skip, to in zip(before, beside, hidden)
        )
        self.classify = nn.Conv2d(before[-1], classes, kernel, padding=kernel // 2)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the finest grid."""
        *finer, last = self.read(tokens, context)
        beside, cells = [as_map(each) for each in finer], as_map(last)
        cells = cells if self.first is None else self.first(cells)
        pair: Any
        for i, pair in enumerate(self.up):
            first, second = pair
            skip: Any = beside[-1 - i] if i < len(beside) else None
            size = (2 * cells.shape[2], 2 * cells.shape[3]) if skip is None else skip.shape[2:]
            cells = resized(cells, size, corners=True)
            cells = first(cells if skip is None else torch.cat((cells, skip), 1))
            cells = second(cells if skip is None else self.between(cells, finer[-1 - i]))
        return self.classify(cells)

    def between(self, cells: Float[Tensor, "B C Y X"], level: Tokens) -> Float[Tensor, "B C Y X"]:
        """What the second convolution takes of the first one, on the grid of a level."""
        return cells


@part("heads")
class UnwarpedUShaped(UShaped):
    """The same, where the cells of a level that were taken from between others, as its positions say, are sent back there
    between the two convolutions (Li et al., Dense Transformer Networks, 2017, section 2).
    """

    def between(self, cells: Float[Tensor, "B C Y X"], level: Tokens) -> Float[Tensor, "B C Y X"]:
        """What the second convolution takes of the first one, on the grid of a level."""
        return sent_back(cells, level.places) if level.places.is_floating_point() else cells
