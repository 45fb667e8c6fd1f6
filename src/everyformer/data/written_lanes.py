"""Lanes as sequences of numbers in several formats, and how much two sets of lanes have in common.

A lane is (P, 2): points from its upper end to its lower one, x and y as shares of the picture's sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from everyformer.published.lane2seq import MARKS

Lane = Float[np.ndarray, "P 2"]
Numbers = Float[np.ndarray, " K"]


@dataclass(frozen=True)
class Format:
    """Base: a lane as so many numbers from 0 to 1, and back."""

    name: ClassVar[str]
    points: int = 14
    """At how many heights a lane is told."""

    @property
    def count(self) -> int:
        """How many numbers a lane is."""
        raise NotImplementedError

    def numbers(self, lane: Lane) -> Numbers:
        """A lane as numbers."""
        raise NotImplementedError

    def lane(self, numbers: Numbers) -> Lane:
        """Numbers as a lane."""
        raise NotImplementedError


class Anchor(Format):
    """The x and y of points at equal distances in height."""

    name = "anchor"

    @property
    def count(self) -> int:
        """How many numbers a lane is."""
        return 2 * self.points

    def numbers(self, lane: Lane) -> Numbers:
        """A lane as numbers."""
        return at_equal_heights(lane, self.points).reshape(-1)

    def lane(self, numbers: Numbers) -> Lane:
        """Numbers as a lane."""
        return numbers.reshape(-1, 2)


@dataclass(frozen=True)
class Polygon(Format):
    """The corners of the area that a lane covers: down along its left side, and up along its right."""

    name = "segmentation"
    half: float = 0.02
    """Half the width of that area."""

    @property
    def count(self) -> int:
        """How many numbers a lane is."""
        return 4 * self.points

    def numbers(self, lane: Lane) -> Numbers:
        """A lane as numbers."""
        middle, aside = at_equal_heights(lane, self.points), np.array([self.half, 0.0])
        return np.concatenate((middle - aside, (middle + aside)[::-1])).clip(0, 1).reshape(-1)

    def lane(self, numbers: Numbers) -> Lane:
        """Numbers as a lane: the middle of both sides."""
        left, right = numbers.reshape(2, -1, 2)
        return (left + right[::-1]) / 2


@dataclass(frozen=True)
class Curve(Format):
    """Where a lane begins and ends in height, and the coefficients of a polynomial between, each through a sigmoid."""

    name = "parameter"
    degree: int = 3

    @property
    def count(self) -> int:
        """How many numbers a lane is."""
        return self.degree + 3

    def numbers(self, lane: Lane) -> Numbers:
        """A lane as numbers, those of the polynomial by least squares."""
        x, y = lane.T
        coefficients = np.polynomial.polynomial.polyfit((y - y[0]) / max(y[-1] - y[0], 1e-6), x, self.degree)
        return np.concatenate(([y[0], y[-1]], 1 / (1 + np.exp(-coefficients))))

    def lane(self, numbers: Numbers) -> Lane:
        """Numbers as a lane."""
        (first, last), squashed = numbers[:2], numbers[2:].clip(1e-4, 1 - 1e-4)
        along = np.linspace(0, 1, self.points)
        x = np.polynomial.polynomial.polyval(along, np.log(squashed / (1 - squashed)))
        return np.stack([x, first + along * (last - first)], -1)


def at_equal_heights(lane: Lane, count: int) -> Lane:
    """A lane by other points, their heights at equal distances."""
    heights = np.linspace(lane[0, 1], lane[-1, 1], count)
    return np.stack([np.interp(heights, lane[:, 1], lane[:, 0]), heights], -1)


FORMATS: dict[str, Callable[[int], Format]] = {
    Anchor.name: Anchor, Polygon.name: lambda points: Polygon(max(1, points // 2)), Curve.name: Curve,
}  # fmt: skip
"""The formats by name, each of lanes that are told by so many points."""


@dataclass(frozen=True)
class Writer:
    """Lanes as tokens: a start, the format, then the numbers of each lane, of `bins`, with a mark behind, and the end (Zhou,
    Lane2Seq, 2024, section 3).
    """

    bins: int = 1000

    @property
    def pieces(self) -> tuple[str, ...]:
        """Each token as a text of its own."""
        return (*(f"{number} " for number in range(self.bins)), *(f"{name} " for name in MARKS))

    def mark(self, name: str) -> int:
        """The token of a mark."""
        return self.bins + MARKS.index(name)

    def prompt(self, form: Format) -> list[int]:
        """What a sequence of that format begins with."""
        return [self.mark("start"), self.mark(form.name)]

    def write(self, form: Format, lanes: Iterable[Lane]) -> list[int]:
        """What comes after the prompt, the end with it."""
        tokens: list[int] = []
        for lane in lanes:
            tokens += np.rint(form.numbers(lane) * (self.bins - 1)).astype(int).tolist() + [self.mark("lane")]
        return [*tokens, self.mark("end")]

    def read(self, form: Format, tokens: Sequence[int]) -> list[Lane]:
        """The lanes of what comes after the prompt, with the end or without; what is no whole lane is none."""
        lanes, numbers = [], list[int]()
        for token in tokens:
            if token < self.bins:
                numbers.append(token)
            elif token == self.mark("lane"):
                if len(numbers) == form.count:
                    lanes.append(form.lane(np.array(numbers) / (self.bins - 1)))
                numbers = []
        return lanes


def line_iou(a: Lane, b: Lane, *, half: float = 0.05, rows: int = 48) -> float:
    """Of two lanes that are `half` wide to each side, the share of the union that both cover, row by row."""
    heights = (np.arange(rows) + 0.5) / rows
    x, y = (np.interp(heights, lane[:, 1], lane[:, 0], left=np.nan, right=np.nan) for lane in map(downwards, (a, b)))
    there = ~np.isnan(x) & ~np.isnan(y)
    both = (2 * half - np.abs(x - y)[there]).clip(0).sum()
    union = 2 * half * ((~np.isnan(x)).sum() + (~np.isnan(y)).sum()) - both
    return float(both / union) if union else 0.0


def downwards(lane: Lane) -> Lane:
    """The points of a lane by their heights."""
    return lane[lane[:, 1].argsort(kind="stable")]


def right(found: Sequence[Lane], wanted: Sequence[Lane], *, least: float = 0.5) -> tuple[int, float]:
    """How many lanes are found, each matched with another one, and what they have in common in sum; `least` is how much of two
    lanes must be common.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(found) or not len(wanted):
        return 0, 0.0
    common = np.array([[line_iou(a, b) for b in wanted] for a in found])
    pairs = common[linear_sum_assignment(-common)]
    return int((pairs >= least).sum()), float(pairs.sum())


def f1(found: Iterable[Sequence[Lane]], wanted: Iterable[Sequence[Lane]]) -> float:
    """2 TP / (lanes found + lanes there) over all pictures."""
    pairs = list(zip(found, wanted, strict=True))
    hits = sum(right(*each)[0] for each in pairs)
    return 2 * hits / max(1, sum(len(a) + len(b) for a, b in pairs))


def reward(found: Sequence[Lane], wanted: Sequence[Lane]) -> float:
    """The F1 of one picture, and the same of what its lanes have in common: a lane that is nearer is worth more."""
    hits, common = right(found, wanted)
    return 2 * (hits + common) / max(1, len(found) + len(wanted))
