"""A mixer inside parts of a map, each by itself: windows, shifted windows, and cells that stand far apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.context import Context, sizes
from everyformer.contracts import Mixer, require
from everyformer.errors import BadInput
from everyformer.grids import anchor, as_cells, as_map, as_tokens, as_update, places_of, rolled
from everyformer.masks import FULL, Mask
from everyformer.mixers.attention import Attention
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens

Sides = tuple[int, int]


class _Apart(Mixer):
    """Base: the map is filled up with zeros at the right and at the bottom, cut up, mixed, and put together again."""

    capabilities = frozenset({"grid"})
    cuts_maps = True

    def __init__(self, width: int, mixer: Spec[Mixer], size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a side is at least 1 cell; given {size}")
        self.size = size
        self.mixer: Mixer = self.make("mixer", mixer, width)

    def apart(self, cells: Float[Tensor, "B Y X D"], sides: Sides) -> Float[Tensor, "W n D"]:
        """The parts of the map, those of a sample after each other."""
        raise NotImplementedError

    def together(self, parts: Float[Tensor, "W n D"], sides: Sides, grid: Sides) -> Float[Tensor, "B Y X D"]:
        """The inverse of `apart`."""
        raise NotImplementedError

    def sides(self, grid: Sides) -> Sides:
        """The rows and columns of a part: no more than the map has."""
        return min(self.size, grid[0]), min(self.size, grid[1])

    def shifts(self, grid: Sides) -> Sides:
        """By how many rows and columns the map is rolled before it is cut up."""
        return 0, 0

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those of its part of the map."""
        context = context or Context()
        cells = as_cells(tokens)
        if tokens.prefix:
            raise BadInput(f"{tokens.prefix} leading tokens stand in no window; build without them, and pool the mean")
        rows, columns = cells.shape[1:3]
        sides, shift = self.sides((rows, columns)), self.shifts((rows, columns))
        if rows % sides[0] or columns % sides[1]:
            cells = F.pad(cells, (0, 0, 0, -columns % sides[1], 0, -rows % sides[0]))
        grid = cells.shape[1], cells.shape[2]
        mask: Mask = FULL
        if any(shift):
            cells = cells.roll((-shift[0], -shift[1]), (1, 2))
            mask = Regions(grid, sides, shift, cells.shape[0])
        places = context.lowered.setdefault(("places", *sizes(*sides)), places_of(sides, cells.device))
        inside = Tokens(self.apart(cells, sides), positions=places, grid=sides)
        mixed = self.together(self.mixer(inside, context.replace(mask=mask)), sides, grid)
        if any(shift):
            mixed = mixed.roll(shift, (1, 2))
        return mixed[:, :rows, :columns].flatten(1, 2)


@part("mixers")
class Windows(_Apart):
    """`mixer` inside windows of `size` x `size` cells, on the map rolled by `shift` (Liu et al., Swin, 2021, section 3.2).

    Where rolling has brought the two ends of the map into one window, they do not see each other. A map not larger than
    the window is one window, and not rolled.
    """

    def __init__(
        self,
        width: int,
        *,
        mixer: Spec[Mixer] = spec(Attention),  # noqa: B008
        size: int = 7,
        shift: int = 0,
    ) -> None:
        super().__init__(width, mixer, size)
        if not 0 <= shift < size:
            raise ValueError(f"a shift is at least 0 and below the size {size} of a window; given {shift}")
        self.shift = shift
        if shift:
            require(self.mixer, Regions((size, size), (size, size), (shift, shift), 1), "mixer")

    def shifts(self, grid: Sides) -> Sides:
        """The shift, where the map is larger than a window."""
        return tuple(self.shift if n > self.size else 0 for n in grid)  # type: ignore[return-value]

    def apart(self, cells: Float[Tensor, "B Y X D"], sides: Sides) -> Float[Tensor, "W n D"]:
        """The windows."""
        return windows(cells, sides)

    def together(self, parts: Float[Tensor, "W n D"], sides: Sides, grid: Sides) -> Float[Tensor, "B Y X D"]:
        """The map."""
        return joined(parts, sides, grid)


@part("mixers")
class FilledWindows(Windows):
    """Windows of one size and shift whatever the map, which is filled up to them where it is smaller (Liu et al., Swin, 2021,
    their code for detection and segmentation).
    """

    def sides(self, grid: Sides) -> Sides:
        """The rows and columns of a window."""
        return self.size, self.size

    def shifts(self, grid: Sides) -> Sides:
        """The shift."""
        return self.shift, self.shift


@part("mixers")
class Spread(_Apart):
    """`mixer` over `size` x `size` cells at equal distances all over the map (Tu et al., MaxViT, 2022, grid attention)."""

    def __init__(self, width: int, *, mixer: Spec[Mixer] = spec(Attention), size: int = 7) -> None:  # noqa: B008
        super().__init__(width, mixer, size)

    def apart(self, cells: Float[Tensor, "B Y X D"], sides: Sides) -> Float[Tensor, "W n D"]:
        """The cells that meet."""
        split = cells.unflatten(2, (sides[1], -1)).unflatten(1, (sides[0], -1)).permute(0, 2, 4, 1, 3, 5)
        return split.reshape(-1, sides[0] * sides[1], cells.shape[-1])

    def together(self, parts: Float[Tensor, "W n D"], sides: Sides, grid: Sides) -> Float[Tensor, "B Y X D"]:
        """The map."""
        cells = parts.view(-1, grid[0] // sides[0], grid[1] // sides[1], *sides, parts.shape[-1])
        return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, *grid, parts.shape[-1])


@part("mixers")
class Anchored(Mixer):
    """`mixer` on the map rolled to where its strongest part begins, and rolled back (Ding et al., 2023, section 3.2).

    What cuts the map by `size` cells (windows, a coarser map of keys) then does so alike wherever the map begins.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        mixer: Spec[Mixer] = spec(Windows),  # noqa: B008
        size: int = 7,
    ) -> None:
        super().__init__()
        self.size = size
        self.mixer: Mixer = self.make("mixer", mixer, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        cells = as_map(tokens)
        begin = anchor(cells, self.size)
        inside = as_tokens(rolled(cells, -begin))
        mixed = self.mixer(inside, context or Context())
        return as_update(tokens, rolled(as_map(inside.update(mixed)), begin))


def windows(cells: Tensor, sides: Sides) -> Tensor:
    """(B, Y, X, D) as windows (B W, n, D)."""
    split = cells.unflatten(2, (-1, sides[1])).unflatten(1, (-1, sides[0])).transpose(2, 3)
    return split.reshape(-1, sides[0] * sides[1], cells.shape[-1])


def joined(parts: Tensor, sides: Sides, grid: Sides) -> Tensor:
    """Windows (B W, n, D) as the map (B, Y, X, D): the inverse of `windows`."""
    cells = parts.view(-1, grid[0] // sides[0], grid[1] // sides[1], *sides, parts.shape[-1])
    return cells.transpose(2, 3).reshape(-1, *grid, parts.shape[-1])


@dataclass(frozen=True)
class Regions(Mask):
    """The cells of a window that were neighbours before the map was rolled see each other: one mask for each window."""

    grid: Sides
    window: Sides
    shift: Sides
    batch: int

    def allows(self, query: Int[Tensor, "1 1 N 1"], key: Int[Tensor, "1 1 1 M"]) -> Bool[Tensor, "W 1 N M"]:
        """True where the query may see the key, for the windows of every sample."""
        rows, columns = (self.bands(axis, query.device) for axis in (0, 1))
        regions = windows((rows[:, None] * 3 + columns)[None, ..., None], self.window)[..., 0]
        allowed = regions[:, None, query.flatten(), None] == regions[:, None, None, key.flatten()]
        return allowed.repeat(self.batch, 1, 1, 1)

    def bands(self, axis: int, device: torch.device) -> Int[Tensor, " n"]:
        """For each row or column of the rolled map: 0 in whole windows, 1 and 2 in the two parts of the last one."""
        place = torch.arange(self.grid[axis], device=device)
        split = self.grid[axis] - self.shift[axis] if self.shift[axis] else self.grid[axis]
        return (place >= self.grid[axis] - self.window[axis]).long() + (place >= split).long()
