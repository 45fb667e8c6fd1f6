"""The layouts of `partition` worked out on pretended chips: each holds its pieces, and what it takes in is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Pieces = dict[tuple[int, int], Tensor]
"""What each chip (x, y) holds."""


@dataclass
class Chips:
    """A grid of X by Y chips; `taken` counts the numbers that each chip took in (all take in the same)."""

    x: int
    y: int
    taken: float = field(default=0.0)

    def cut(self, whole: Tensor, x: int | None = None, y: int | None = None) -> Pieces:
        """Cut dimension `x` of a tensor over the first axis and dimension `y` over the second; None: copies."""
        found = {}
        for place in self.places():
            piece = whole
            for at, dim, count in zip(place, (x, y), (self.x, self.y), strict=True):
                piece = piece if dim is None else piece.chunk(count, dim)[at]
            found[place] = piece
        return found

    def places(self) -> list[tuple[int, int]]:
        """All chips."""
        return [(x, y) for x in range(self.x) for y in range(self.y)]

    def all_gather(self, pieces: Pieces, axis: int, dim: int) -> Pieces:
        """Every chip gets the pieces of its row (axis 1) or column (axis 0), put together along `dim`."""
        found = {place: torch.cat([pieces[each] for each in self._group(place, axis)], dim) for place in self.places()}
        self._count(found, axis)
        return found

    def reduce_scatter(self, pieces: Pieces, axis: int, dim: int) -> Pieces:
        """Every chip gets its piece along `dim` of the sum over its row or column."""
        self._count(pieces, axis)
        count = (self.x, self.y)[axis]
        return {
            place: sum(pieces[each].chunk(count, dim)[place[axis]] for each in self._group(place, axis))  # type: ignore[misc]
            for place in self.places()
        }

    def all_to_all(self, pieces: Pieces, axis: int, given: int, taken: int) -> Pieces:
        """Every chip gives its pieces along `given` to the others and puts theirs together along `taken`."""
        self._count(pieces, axis)
        count = (self.x, self.y)[axis]
        return {
            place: torch.cat(
                [pieces[each].chunk(count, given)[place[axis]] for each in self._group(place, axis)], taken
            )
            for place in self.places()
        }

    def _group(self, place: tuple[int, int], axis: int) -> list[tuple[int, int]]:
        if axis == 0:
            return [(i, place[1]) for i in range(self.x)]
        return [(place[0], i) for i in range(self.y)]

    def _count(self, pieces: Pieces, axis: int) -> None:
        count = (self.x, self.y)[axis]
        self.taken += pieces[0, 0].numel() * (count - 1) / count


def stationary(
    chips: Chips,
    values: Float[Tensor, "B E"],
    up: Float[Tensor, "E F"],
    down: Float[Tensor, "F E"],
    act: Callable[[Tensor], Tensor],
) -> Float[Tensor, "B E"]:
    """A feedforward whose weights stay where they are: E over x, F over y (figure 2; with x = 1 it is one-dimensional)."""
    ups, downs = chips.cut(up, 0, 1), chips.cut(down, 1, 0)
    ours = chips.all_gather({p: v.chunk(chips.y, 1)[p[1]] for p, v in chips.cut(values, 1).items()}, 1, 1)
    partial = chips.reduce_scatter({p: ours[p] @ ups[p] for p in ours}, 0, 1)
    hidden = chips.all_gather({p: act(h) for p, h in partial.items()}, 0, 1)
    given = chips.reduce_scatter({p: hidden[p] @ downs[p] for p in hidden}, 1, 1)
    return torch.cat([torch.cat([given[x, y] for y in range(chips.y)], 1) for x in range(chips.x)], 1)


def weights_gathered(
    chips: Chips,
    values: Float[Tensor, "B E"],
    up: Float[Tensor, "E F"],
    down: Float[Tensor, "F E"],
    act: Callable[[Tensor], Tensor],
) -> Float[Tensor, "B E"]:
    """A feedforward whose weights are gathered over x, among which the batch is cut (figure 2, c)."""
    ups = chips.all_gather(chips.cut(up, 0, 1), 0, 0)
    downs = chips.all_gather(chips.cut(down, 1, 0), 0, 1)
    ours = chips.all_gather(chips.cut(values, 0, 1), 1, 1)
    given = chips.reduce_scatter({p: act(ours[p] @ ups[p]) @ downs[p] for p in ours}, 1, 1)
    return torch.cat([torch.cat([given[x, y] for y in range(chips.y)], 1) for x in range(chips.x)], 0)


def by_heads(
    chips: Chips, query: Float[Tensor, "B H N K"], key: Float[Tensor, "B G M K"], value: Float[Tensor, "B G M K"]
) -> Float[Tensor, "B H N K"]:
    """Attention cut over heads along y; where there is one head of keys, every chip holds it whole (figure 4, b)."""
    shared = key.shape[1] == 1
    keys, values = (chips.cut(each, None, None if shared else 1) for each in (key, value))
    found = {p: _attention(q, keys[p], values[p]) for p, q in chips.cut(query, None, 1).items()}
    return torch.cat([found[0, y] for y in range(chips.y)], 1)


def by_batch(
    chips: Chips, query: Float[Tensor, "B H N K"], key: Float[Tensor, "B G M K"], value: Float[Tensor, "B G M K"]
) -> Float[Tensor, "B H N K"]:
    """Attention cut over sequences along y; queries come by heads, and answers go back so (figure 5)."""
    ours = chips.all_to_all(chips.cut(query, None, 1), 1, 0, 1)
    keys, values = chips.cut(key, None, 0), chips.cut(value, None, 0)
    found = chips.all_to_all({p: _attention(ours[p], keys[p], values[p]) for p in ours}, 1, 1, 0)
    return torch.cat([found[0, y] for y in range(chips.y)], 1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
