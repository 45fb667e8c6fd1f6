"""How far away each pixel of a picture is, from the maps of several levels: (B, 1, Y, X)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Backbone, MapHead
from everyformer.convolution import ConvNorm, resized
from everyformer.dropout import Dropout
from everyformer.errors import BadInput
from everyformer.grids import as_map, as_tokens
from everyformer.heads.upsampling import Convex, Upsampling
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


def doubled(cells: Float[Tensor, "B D Y X"], *, corners: bool = False) -> Float[Tensor, "B D y x"]:
    """A map on a grid twice as fine."""
    return resized(cells, (2 * cells.shape[2], 2 * cells.shape[3]), corners=corners)


@part("heads")
class SelectiveFusion(MapHead):
    """From the last level up, a level and what comes from below weighed against each other at each cell
    (Kim et al., GLPN, 2022, sections 3.3 and 3.4); max_depth sigmoid(.) at the end.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        hidden: int = 64,
        max_depth: float = 10.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.max_depth = max_depth
        self.project = nn.ModuleList(
            nn.Identity() if width == hidden else nn.Conv2d(width, hidden, 1) for width in reversed(self.widths)
        )
        self.fusion = nn.ModuleList(_Gates(hidden) for _ in self.widths[1:])
        self.before, self.last = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 3, padding=1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B 1 Y X"]:
        """The depth of each pixel, four times as fine as the finest level."""
        maps = [project(each) for project, each in zip(self.project, reversed(self.maps(tokens, context)), strict=True)]
        cells, *finer = maps
        for fusion, each in zip(self.fusion, finer, strict=True):
            cells = fusion(each, resized(doubled(cells), each.shape[2:]))
        cells = doubled(doubled(cells))
        return self.max_depth * self.last(F.relu(self.before(cells))).sigmoid()


class _Gates(nn.Module):
    """a local + b global, where a and b are read from both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNorm(2 * width, width, bias=True),
            ConvNorm(width, width // 2, bias=True),
            nn.Conv2d(width // 2, 2, 3, padding=1),
        )

    def forward(self, local: Float[Tensor, "B D Y X"], below: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D Y X"]:
        """The weighed sum."""
        first, second = self.convs(torch.cat((local, below), 1)).sigmoid().chunk(2, 1)
        return local * first + below * second


@part("heads")
class DepthByScales(MapHead):
    """From the last level up, each time twice as fine by `up`, a convolution of that and the level of that grid beside it, then
    `block`; on each of these grids the inverse depth, of which the finest is made as fine as the picture by `up` again
    (Xiang et al., 2024, whose decoder has a large kernel attention for its block; the range as in Godard et al.,
    Monodepth2, 2019, section 3.4).

    `hidden` are the widths on the way, `factor` is how much finer the picture is than the finest level. Depth is `nearest`
    to `max_depth`. Noted as `inverse` (L, B, Y, X) are the inverse depths of all grids, the finest first, as fine as the
    picture.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        block: Spec[Backbone],
        up: Spec[Upsampling] = spec(Convex),  # noqa: B008
        hidden: tuple[int, ...] = (256, 128, 64, 32),
        factor: int = 4,
        nearest: float = 0.1,
        max_depth: float = 100.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        if len(hidden) != len(self.widths):
            raise ValueError(f"{len(self.widths)} levels; give a width on the way for each, not hidden={hidden}")
        if not 0 < nearest < max_depth:
            raise ValueError(f"depth is above 0 and below max_depth={max_depth}; given nearest={nearest}")
        self.nearest, self.max_depth = nearest, max_depth
        below = (0, *hidden)
        self.enter = nn.ModuleList(
            ConvNorm(width + beside, to) for width, beside, to in zip(reversed(self.widths), below, hidden)
        )
        self.block = nn.ModuleList(self.make("block", block, to) for to in hidden)
        steps = zip(hidden, (*[2] * (len(hidden) - 1), factor), strict=True)
        self.up = nn.ModuleList(self.make("up", up, width, times) for width, times in steps)
        self.inverse = nn.ModuleList(nn.Conv2d(to, 1, 3, padding=1) for to in hidden)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B 1 Y X"]:
        """The depth of each pixel."""
        cells: Tensor | None = None
        said = []
        for i, each in enumerate(reversed(self.maps(tokens, context))):
            given = each
            if cells is not None:
                given = torch.cat((each, resized(self.up[i - 1](cells, cells), each.shape[2:])), 1)
            cells = as_map(self.block[i](as_tokens(self.enter[i](given)), Context()))
            said.append(self.between(self.inverse[i](cells)))
        assert cells is not None
        finest = self.up[-1](said[-1], cells)
        if context is not None and context.notes is not None:
            coarser = [resized(each, finest.shape[2:]) for each in said[-2::-1]]
            context.notes["inverse"] = torch.cat((finest, *coarser), 1).transpose(0, 1)
        return 1 / finest

    def between(self, logits: Float[Tensor, "B 1 Y X"]) -> Float[Tensor, "B 1 Y X"]:
        """Inverse depths between those of the farthest and of the nearest."""
        far, near = 1 / self.max_depth, 1 / self.nearest
        return far + (near - far) * logits.sigmoid()


class Reassembling(MapHead):
    """Base: levels of a plain transformer reassembled into maps of several resolutions, fused from coarse to fine
    (Ranftl et al., DPT, 2021, sections 3.1 and 3.2).

    `hidden` and `factors` are the widths of the maps and how much finer they are than the patches; each patch reads the
    class token beside it. The units that fuse have batch norms in place of biases where `normed`.
    """

    leads = 1

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        hidden: tuple[int, ...] = (96, 192, 384, 768),
        factors: tuple[int | float, ...] = (4, 2, 1, 0.5),
        fused: int = 256,
        normed: bool = False,
        activation: str = "gelu",
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        if not len(self.widths) == len(hidden) == len(factors):
            raise ValueError(f"{len(self.widths)} levels; give as many hidden={hidden} and factors={factors}")
        self.activation = activation_named(activation)
        self.readout = nn.ModuleList(nn.Linear(2 * width, width) for width in self.widths)
        self.project = nn.ModuleList(nn.Conv2d(width, to, 1) for width, to in zip(self.widths, hidden))
        self.resize = nn.ModuleList(_resize(to, factor) for to, factor in zip(hidden, factors))
        self.narrow = nn.ModuleList(nn.Conv2d(to, fused, 3, padding=1, bias=False) for to in hidden)
        self.beside = nn.ModuleList(_Unit(fused, normed) if i else nn.Identity() for i in range(len(hidden)))
        self.after = nn.ModuleList(_Unit(fused, normed) for _ in hidden)
        self.mix = nn.ModuleList(nn.Conv2d(fused, fused, 1) for _ in hidden)

    def together(self, tokens: Tokens, context: Context | None) -> Float[Tensor, "B D Y X"]:
        """One map, twice as fine as the finest level."""
        cells, *finer = reversed([self._map(i, each) for i, each in enumerate(self.read(tokens, context))])
        cells = self.after[0](cells)
        for i, each in enumerate(finer, 1):
            cells = self.mix[i - 1](doubled(cells, corners=True))
            cells = self.after[i](cells + self.beside[i](resized(each, cells.shape[2:])))
        return self.mix[-1](doubled(cells, corners=True))

    def _map(self, level: int, tokens: Tokens) -> Float[Tensor, "B D Y X"]:
        """A level as a map of its resolution."""
        if not tokens.prefix:
            raise BadInput(f"{type(self).__name__} reads a class token, and no tokens lead; give the embedding first=1")
        lead = tokens.values[:, :1].expand_as(tokens.values)
        read = self.activation(self.readout[level](torch.cat((tokens.values, lead), -1)))
        return self.narrow[level](self.resize[level](self.project[level](as_map(tokens.update(read)))))


@part("heads")
class Reassembled(Reassembling):
    """The fused map through three convolutions into how far away each pixel is (Ranftl et al., DPT, 2021, section 3.3); the
    answer is not below 0. The inverse depth is what the published weights answer.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        hidden: tuple[int, ...] = (96, 192, 384, 768),
        factors: tuple[int | float, ...] = (4, 2, 1, 0.5),
        fused: int = 256,
        narrow: int = 32,
        normed: bool = False,
        activation: str = "gelu",
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(
            widths, hidden=hidden, factors=factors, fused=fused, normed=normed, activation=activation, levels=levels
        )
        self.first = nn.Conv2d(fused, fused // 2, 3, padding=1)
        self.middle, self.last = nn.Conv2d(fused // 2, narrow, 3, padding=1), nn.Conv2d(narrow, 1, 1)
        self.last.own_init = True  # type: ignore[assignment]
        nn.init.ones_(self.last.bias)  # type: ignore[arg-type]  # below 0 everywhere it would never learn

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B 1 Y X"]:
        """The answer for each pixel."""
        cells = self.first(self.together(tokens, context))
        return F.relu(self.last(F.relu(self.middle(doubled(cells, corners=True)))))


@part("heads")
class ReassembledClasses(Reassembling):
    """The fused map through two convolutions into what each pixel is (Ranftl et al., DPT, 2021, section 3.3)."""

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        hidden: tuple[int, ...] = (96, 192, 384, 768),
        factors: tuple[int | float, ...] = (4, 2, 1, 0.5),
        fused: int = 256,
        normed: bool = True,
        activation: str = "gelu",
        dropout: float = 0.1,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(
            widths, hidden=hidden, factors=factors, fused=fused, normed=normed, activation=activation, levels=levels
        )
        self.classes = classes
        self.before = ConvNorm(fused, fused)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Conv2d(fused, classes, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each pixel."""
        cells = self.before(self.together(tokens, context))
        return doubled(self.classify(cells if self.dropout is None else self.dropout(cells)), corners=True)


class _Unit(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))), with a batch norm behind each convolution where `normed`."""

    def __init__(self, width: int, normed: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=not normed) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) if normed else nn.Identity() for _ in range(2))

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D Y X"]:
        """The map with the update added."""
        update = cells
        for conv, norm in zip(self.convs, self.norms):
            update = norm(conv(F.relu(update)))
        return cells + update


def _resize(width: int, factor: int | float) -> nn.Module:
    """A map `factor` times as fine."""
    if factor > 1:
        return nn.ConvTranspose2d(width, width, int(factor), int(factor))
    return nn.Identity() if factor == 1 else nn.Conv2d(width, width, 3, int(1 / factor), 1)
