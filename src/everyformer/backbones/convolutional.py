"""Stages of convolutions: what a pyramid has before its transformer, or in its place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Transition
from everyformer.convolution import ConvNorm, StandardConv2d, resized
from everyformer.grids import as_map, as_tokens
from everyformer.registry import part
from everyformer.tokens import Tokens
from everyformer.warps import spline, taken


@part("backbones")
class ConvPair(Transition):
    """Max pooling by `stride`, then two 3x3 convolutions with norm and ReLU (Ronneberger et al., U-Net, 2015, section 2)."""

    def __init__(self, width: int, to: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convs = nn.ModuleList((ConvNorm(width, to), ConvNorm(to, to)))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        first, second = self.convs
        return as_tokens(second(first(F.max_pool2d(as_map(tokens), self.stride))))


@part("backbones")
class WarpedPair(ConvPair):
    """The same, the map bent between the two convolutions: each cell takes what stands where a thin plate spline leads it,
    by `points` that a network of `hidden` units reads off the map (Li et al., Dense Transformer Networks, 2017, section 2).

    `grid` are the rows and columns that this network reads; a map of another size is brought to them for it. The tokens'
    positions say where each was taken from, so that a head can send them back. It begins nearly straight.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        grid: tuple[int, int],
        points: tuple[int, int] = (4, 4),
        hidden: int = 20,
        stride: int = 1,
    ) -> None:
        super().__init__(width, to, stride=stride)
        if min(points) < 2:
            raise ValueError(f"a spline is held at 2 points a side or more; given {points}")
        self.grid, self.points = grid, points
        self.read = nn.Linear(to * math.prod(grid), hidden)
        self.lead = nn.Linear(hidden, 2 * math.prod(points))
        self.lead.own_init = True  # type: ignore[assignment]
        nn.init.normal_(self.lead.weight, std=1e-3)
        straight = torch.cartesian_prod(*(torch.linspace(-1, 1, side) for side in points))
        with torch.no_grad():
            self.lead.bias.copy_((0.99 * straight).atanh().flatten())

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        first, second = self.convs
        cells = first(F.max_pool2d(as_map(tokens), self.stride))
        read = self.read(resized(cells, self.grid).flatten(1)).tanh()
        control = self.lead(read).tanh().unflatten(1, (-1, 2))
        points = spline(control, self.points, (cells.shape[2], cells.shape[3]))
        return as_tokens(second(taken(cells, points))).replace(positions=points)


@part("backbones")
class Bottlenecks(Transition):
    """`depth` residual blocks of 1x1, 3x3 and 1x1 convolutions, the first of which has the `stride`
    (He et al., ResNet, 2016, section 4.1; the stride on the 3x3 convolution).

    `pool`: 3x3 max pooling with stride 2 before them. The middle of a block has `wide` quarters of the channels
    (2 in Zagoruyko and Komodakis, Wide Residual Networks, 2016).
    """

    def __init__(
        self, width: int, to: int, *, depth: int = 3, stride: int = 1, pool: bool = False, wide: int = 1
    ) -> None:
        super().__init__()
        self.pool, self.hidden = pool, to // 4 * wide
        self.blocks = nn.ModuleList(_Bottleneck(self, to if i else width, to, 1 if i else stride) for i in range(depth))

    def conv(self, width: int, to: int, kernel: int, stride: int) -> nn.Module:
        """A convolution, and the norm after it."""
        return nn.Sequential(
            nn.Conv2d(width, to, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(to)
        )  # fmt: skip

    def short(self, width: int, to: int, stride: int) -> nn.Module:
        """What stands in the way around a block that changes the grid or the width."""
        return self.conv(width, to, 1, stride)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        cells = as_map(tokens)
        if self.pool:
            cells = F.max_pool2d(cells, 3, 2, 1)
        for block in self.blocks:
            cells = block(cells)
        return as_tokens(cells)


@part("backbones")
class StandardBottlenecks(Bottlenecks):
    """The same with standardised kernels and group norms (Kolesnikov et al., BiT, 2020, section 3; Chen et al.,
    TransUNet, 2021, official code); the way around has a group for each channel.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        depth: int = 3,
        stride: int = 1,
        pool: bool = False,
        wide: int = 1,
        groups: int = 32,
    ) -> None:
        self._groups = groups
        super().__init__(width, to, depth=depth, stride=stride, pool=pool, wide=wide)

    def conv(self, width: int, to: int, kernel: int, stride: int) -> nn.Module:
        """A convolution, and the norm after it."""
        return nn.Sequential(
            StandardConv2d(width, to, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(self._groups, to, eps=1e-6)
        )

    def short(self, width: int, to: int, stride: int) -> nn.Module:
        """What stands in the way around a block that changes the grid or the width."""
        return nn.Sequential(StandardConv2d(width, to, 1, stride, bias=False), nn.GroupNorm(to, to))


class _Bottleneck(nn.Module):
    """ReLU(short(x) + conv1(ReLU(conv3(ReLU(conv1(x))))))."""

    def __init__(self, of: Bottlenecks, width: int, to: int, stride: int) -> None:
        super().__init__()
        hidden = of.hidden
        self.convs = nn.ModuleList(
            of.conv(*each) for each in ((width, hidden, 1, 1), (hidden, hidden, 3, stride), (hidden, to, 1, 1))
        )
        self.short = of.short(width, to, stride) if stride > 1 or width != to else nn.Identity()

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The map after the block."""
        first, middle, last = self.convs
        return F.relu(self.short(cells) + last(F.relu(middle(F.relu(first(cells))))))
