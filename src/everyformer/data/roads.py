"""Rendered roads with exact ground truth: lanes painted on the floor of a room, seen by the same eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from everyformer.data.scenes import EYE, FAR, FOCAL, HORIZON, floor, rays_of, seen

NEAR = 2.8
"""How far away the floor is at the lower edge of a picture."""
POINTS = 24
"""In how many points a lane is told."""


@dataclass(frozen=True)
class Road:
    """A picture of a road."""

    picture: UInt8[np.ndarray, "Y X 3"]
    lanes: Float[np.ndarray, "L P 2"]
    """From left to right, each from far to near: x and y as shares of the picture's sides."""


def render_road(seed: int, side: int = 64, most: int = 3) -> Road:
    """A road of 1 to `most` lanes with a common bend: a function of the seed alone."""
    random = np.random.default_rng(seed)
    rays = rays_of(side)
    depth, down = floor(rays)
    colour = np.empty((side, side, 3))
    colour[:] = random.uniform(0.4, 0.9, 3)
    colour[down] = random.uniform(0.1, 0.35)
    away = depth - NEAR
    count = random.integers(1, most + 1)
    slope, bend = random.uniform(-0.12, 0.12), random.uniform(-0.05, 0.05)
    first, gap = random.uniform(-1.0, 0.9 - 0.7 * (count - 1)), random.uniform(0.55, 0.7)
    heights = np.linspace(HORIZON + FOCAL * EYE / (FAR * 0.7), 1.0, POINTS)
    depths = FOCAL * EYE / (heights - HORIZON)
    lanes = []
    for number in range(count):
        aside, gaps = first + gap * number, 0.4 * random.integers(2)
        painted = down & (np.abs(rays[..., 0] * depth - _aside(aside, slope, bend, away)) < 0.06)
        painted &= depth % 1.2 >= gaps
        colour[painted] = random.uniform(0.8, 1.0)
        across, _ = seen(_aside(aside, slope, bend, depths - NEAR), depths)
        lanes.append(np.stack([across, heights], -1))
    fog = 1 - 0.4 * (depth / FAR)[..., None]
    noisy = colour * fog + random.normal(0, 0.03, colour.shape)
    return Road((noisy.clip(0, 1) * 255).astype(np.uint8), np.stack(lanes).clip(0, 1))


def _aside(start: float, slope: float, bend: float, away: np.ndarray) -> np.ndarray:
    """How far to the right a lane is at each distance."""
    return start + slope * away + bend * away**2 / 4
