"""Two paths over a picture, one that keeps its detail and one that goes deep, and the parts of both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones.pyramids import Pyramid, Stage
from everyformer.context import Context
from everyformer.contracts import Backbone, Norm, Transition
from everyformer.convolution import ConvNorm
from everyformer.errors import DoesNotFit
from everyformer.grids import as_map, as_tokens
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class ConvRow(Transition):
    """`depth` 3x3 convolutions with norm and ReLU, the first of which has the `stride` (Yu et al., BiSeNet V2, 2021, section
    4.1).
    """

    def __init__(self, width: int, to: int, *, depth: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(ConvNorm(to if i else width, to, stride=1 if i else stride) for i in range(depth)))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        return as_tokens(self.convs(as_map(tokens)))


@part("backbones")
class StemBlock(Transition):
    """A convolution of stride 2, then another one through half the width beside max pooling, and a convolution of both: a
    quarter of the rows and columns (Yu et al., BiSeNet V2, 2021, section 4.2, figure 4).
    """

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.enter = ConvNorm(width, to, stride=2)
        self.through = nn.Sequential(ConvNorm(to, to // 2, kernel=1), ConvNorm(to // 2, to, stride=2))
        self.fuse = ConvNorm(2 * to, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        cells = self.enter(as_map(tokens))
        return as_tokens(self.fuse(torch.cat((self.through(cells), F.max_pool2d(cells, 3, 2, 1)), 1)))


@part("backbones")
class ContextEmbedding(Transition):
    """conv(x + ReLU(norm(W norm(mean(x))))): what the whole map shows, added to each cell (Yu et al., BiSeNet V2, 2021,
    section 4.2, figure 4).
    """

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.whole = ConvNorm(width, width, kernel=1)
        self.conv = ConvNorm(width, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens of the same grid."""
        cells = as_map(tokens)
        return as_tokens(self.conv(cells + self.whole(self.norm(cells.mean((2, 3), keepdim=True)))))


class Join(Part):
    """Base of how two paths over the same tokens become one: built with their width."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, fine: Tokens, deep: Tokens) -> Tokens:
        """Tokens on the grid of the first."""
        raise NotImplementedError


@part("backbones")
class Added(Join):
    """The sum, where the cells of a coarser map stand for those around them."""

    def forward(self, fine: Tokens, deep: Tokens) -> Tokens:
        """Tokens on the grid of the first."""
        if fine.count == deep.count:
            return fine.update(fine.values + deep.values)
        return fine.update(fine.values + _as_fine(as_map(deep), as_map(fine)).flatten(2).mT)


@part("backbones")
class Guided(Join):
    """What either path found opens gates for the other, on the finer grid and on one a quarter as fine, on which the deep path
    ends, and a convolution of their sum follows (Yu et al., BiSeNet V2, 2021, section 4.3).
    """

    needs_grid = True

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.fine, self.coarse = _separable(width), nn.Sequential(*_convolved(width, 2), nn.AvgPool2d(3, 2, 1))
        self.fine_gate, self.coarse_gate = _convolved(width, 1), _separable(width)
        self.fuse = ConvNorm(width, width)

    def forward(self, fine: Tokens, deep: Tokens) -> Tokens:
        """Tokens on the grid of the first."""
        detail, meaning = as_map(fine), as_map(deep)
        opened = self.fine(detail) * _as_fine(self.fine_gate(meaning), detail).sigmoid()
        coarse = self.coarse(detail) * self.coarse_gate(meaning).sigmoid()
        return as_tokens(self.fuse(opened + _as_fine(coarse, detail)))


@part("backbones")
class Bilateral(Pyramid):
    """A pyramid, and a path of `detail` beside it that ends as wide, which `join` makes one of (Yu et al., BiSeNet V2, 2021,
    section 3). Its levels are those of the pyramid, then what both came to.
    """

    def __init__(
        self,
        width: int,
        *,
        detail: Spec[Backbone],
        join: Spec[Join],
        stages: tuple[Spec[Backbone], ...] = (spec(Stage),) * 2,
        norm: Spec[Norm] | None = None,
    ) -> None:
        super().__init__(width, stages=stages, norm=norm)
        self.detail: Backbone = self.make("detail", detail, width)
        to = self.detail.gives or width
        if to != self.gives:
            raise DoesNotFit(f"it ends {to} wide, and the pyramid beside it {self.gives}", "detail")
        self.join: Join = self.make("join", join, to)
        self.widths = (*self.widths, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """What both paths came to."""
        context = context or Context()
        detail = self.detail(tokens, context.replace(levels=None))
        both = self.join(detail, super().forward(tokens, context))
        if context.levels is not None:
            context.levels[self.join] = both
        return both


def _as_fine(cells: Float[Tensor, "B D y x"], like: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D Y X"]:
    """Each cell as often as it takes."""
    return F.interpolate(cells, like.shape[2:])


def _convolved(width: int, stride: int) -> nn.Sequential:
    """BatchNorm(conv3x3(x))."""
    return nn.Sequential(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))


def _separable(width: int) -> nn.Sequential:
    """A depthwise convolution, its norm and a linear map."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
    )  # fmt: skip
