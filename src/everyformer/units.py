"""The like units that a part is made of (heads, hidden units), and which of its weights belong to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from everyformer.errors import BadInput

At = Int[Tensor, "U S"]
"""For each unit, the places along an axis that are its own."""


@dataclass(frozen=True)
class Units:
    """`options` says how many of an option of the part's one unit is; `pinned` the options that must not follow the number.

    `places` says for each tensor that the units share along which axis, and what of it belongs to each. Every weight
    that is not named there belongs to all of them.
    """

    name: str
    """What one is called: 'heads', 'hidden'."""
    count: int
    options: Mapping[str, int]
    places: Mapping[str, tuple[int, At]]
    output: str = ""
    """The linear map that reads one unit at `places` along its inputs and nothing else of the part."""
    pinned: Mapping[str, Any] = field(default_factory=dict)

    def of(self, count: int) -> dict[str, Any]:
        """The options of a part with so many units."""
        return {**self.pinned, **{name: each * count for name, each in self.options.items()}}

    @property
    def inputs(self) -> At:
        """The inputs of the output map that are a unit's."""
        return self.places[f"{self.output}.weight"][1]


def at(count: int, *sizes: int) -> At:
    """The places of each unit along an axis that holds blocks of these sizes, each shared out evenly and in order."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return torch.cat([start + torch.arange(size).view(count, -1) for start, size in zip(starts, sizes)], 1)


def hand_over(mine: Tensor, given: Tensor, axis: int, to: At, of: At) -> None:
    """Copy the units at `of` of a tensor to those at `to` of another, as much of each as both have along other axes."""
    target, source = mine.movedim(axis, 0), given.movedim(axis, 0)
    both: tuple[Any, ...] = tuple(slice(min(sizes)) for sizes in zip(target.shape[1:], source.shape[1:]))
    target[(to.flatten(), *both)] = source[(of.flatten(), *both)].to(target)


def share(mine: Units | None, old: Units | None, kept: Sequence[int] | None) -> dict[str, tuple[int, At, At]]:
    """What `hand_over` is told for each tensor that parts of other numbers of like units share."""
    if mine is None or old is None:
        return {}
    count = min(mine.count, old.count)
    of = list(range(count)) if kept is None else chosen(kept, old.count)
    return {
        name: (axis, to[: len(of)], old.places[name][1][of])
        for name, (axis, to) in mine.places.items()
        if name in old.places and old.places[name][1].shape[1] == to.shape[1]
    }


def chosen(units: Sequence[int], count: int) -> list[int]:
    """Units in order, each once."""
    found = sorted(set(units))
    if not found or found[0] < 0 or found[-1] >= count:
        raise BadInput(f"of {count} units some are kept, numbered 0 to {count - 1}; given {list(units)}")
    return found
