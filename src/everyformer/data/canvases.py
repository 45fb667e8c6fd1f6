"""Handwritten digits pasted on empty pictures, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

SIDE = 64
MOST = 4
"""How many digits a picture has at most."""
SIZES = ("small", "large")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Pasted:
    """A digit on a picture."""

    place: int
    """Which of the draws of its picture it is: some found no room."""
    size: int
    digit: int
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of what is seen of it, in pixels."""

    @property
    def caption(self) -> str:
        """Its size and its digit."""
        return f"{SIZES[self.size]} {DIGITS[self.digit]}"


def canvases(
    images: UInt8[np.ndarray, "N y x"], labels: np.ndarray, count: int, seed: int
) -> tuple[Float[np.ndarray, "B Y X"], list[list[Pasted]]]:
    """Pictures with one to four of these digits each, twice or three times as large, at every eighth pixel, none over another, and
    noise; and what is on them.
    """
    random = np.random.default_rng(seed)
    pictures = random.normal(0, 8, (count, SIDE, SIDE)).astype(np.float32)
    found: list[list[Pasted]] = [[] for _ in pictures]
    for picture, things in zip(pictures, found, strict=True):
        taken = np.zeros((SIDE, SIDE), bool)
        for thing in range(random.integers(1, MOST + 1)):
            size, which = int(random.integers(len(SIZES))), int(random.integers(len(images)))
            drawn = np.kron(images[which], np.ones((size + 2,) * 2))
            y, x = 8 * random.integers(0, (SIDE - len(drawn)) // 8 + 1, 2)
            area = (slice(y, y + len(drawn)), slice(x, x + len(drawn)))
            if taken[area].any():
                continue
            taken[area] = True
            picture[area] += drawn
            down, right = np.nonzero(drawn)
            ends = (x + right.min(), y + down.min(), x + right.max() + 1, y + down.max() + 1)
            box = tuple(int(each) for each in ends)
            things.append(Pasted(thing, size, int(labels[which]), box))  # type: ignore[arg-type]
    return pictures, found
