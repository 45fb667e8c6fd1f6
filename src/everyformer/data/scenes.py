"""Rendered scenes with exact ground truth: a room with balls, boxes and pillars, ray by ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

KINDS = ("ball", "box", "pillar")
"""What stands in a room."""
GROUND = ("wall", "floor")
EYE, FAR, FOCAL, HORIZON = 1.4, 12.0, 1.1, 0.45
"""How high the eye is above the floor, how far away the wall, how long the lens, in widths of the picture, and at which
share of the picture's height what is as high as the eye is seen.
"""


@dataclass(frozen=True)
class Scene:
    """A picture, and what is true of each of its pixels and things."""

    picture: UInt8[np.ndarray, "Y X 3"]
    depth: Float[np.ndarray, "Y X"]
    """Along the axis of view."""
    classes: Int[np.ndarray, "Y X"]
    """0 wall, 1 floor, then KINDS."""
    things: Int[np.ndarray, "Y X"]
    """Which thing each pixel shows, -1 for none."""
    kinds: list[int]
    """The kind of each thing that is seen."""
    boxes: Float[np.ndarray, "N 4"]
    """Left, top, right and bottom of what is seen of it, in pixels."""


def render(seed: int, side: int = 64, most: int = 5) -> Scene:
    """A scene of 1 to `most` things: a function of the seed alone."""
    random = np.random.default_rng(seed)
    rays = rays_of(side)
    light = np.array([random.uniform(-0.7, 0.7), 1.0, 0.8])
    light /= np.linalg.norm(light)

    depth, down = floor(rays)
    classes = down.astype(np.int64)
    things = np.full(depth.shape, -1)
    colour = np.empty((*depth.shape, 3))
    tint = random.uniform(0.3, 0.8, (2, 3))
    point = rays * depth[..., None]
    tiles = (np.floor(point[..., 0]) + np.floor(point[..., 2])) % 2
    colour[:] = tint[0]
    colour[down] = tint[1] * (0.7 + 0.3 * tiles[down][:, None])

    kinds = random.integers(0, len(KINDS), random.integers(1, most + 1))
    for number, kind in enumerate(kinds):
        hit, normal = _thing(KINDS[kind], random, rays)
        nearer = hit < depth
        depth[nearer], classes[nearer], things[nearer] = hit[nearer], len(GROUND) + kind, number
        shade = 0.45 + 0.55 * np.clip(-(normal @ light), 0, 1)
        colour[nearer] = random.uniform(0.15, 1.0, 3) * shade[nearer][:, None]

    fog = 1 - 0.4 * (depth / FAR)[..., None]
    noisy = colour * fog + random.normal(0, 0.02, colour.shape)
    return _told((noisy.clip(0, 1) * 255).astype(np.uint8), depth.astype(np.float32), classes, things, kinds)


def rays_of(side: int) -> Float[np.ndarray, "Y X 3"]:
    """Where each pixel looks: to the right, down, and 1 ahead."""
    y, x = np.mgrid[:side, :side]
    return np.stack([(x + 0.5) / side - 0.5, (y + 0.5) / side - HORIZON, np.full(x.shape, FOCAL)], -1) / FOCAL


def seen(aside: Float[np.ndarray, "*n"], away: Float[np.ndarray, "*n"]) -> tuple[np.ndarray, np.ndarray]:
    """Where in the picture the floor is seen, x and y as shares of its sides."""
    return 0.5 + FOCAL * aside / away, HORIZON + FOCAL * EYE / away


def floor(rays: Float[np.ndarray, "Y X 3"]) -> tuple[Float[np.ndarray, "Y X"], Bool[np.ndarray, "Y X"]]:
    """How far away the wall or the floor is, and which pixels show the floor."""
    depth, down = np.full(rays.shape[:2], FAR), rays[..., 1] > EYE / FAR
    depth[down] = EYE / rays[..., 1][down]
    return depth, down


def _thing(kind: str, random: np.random.Generator, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How deep each ray meets a thing at a random place on the floor (infinite where not), and the normal there."""
    away = random.uniform(3.0, 9.0)
    aside = random.uniform(-0.4, 0.4) * away
    if kind == "ball":
        radius = random.uniform(0.4, 0.9)
        centre = np.array([aside, EYE - radius, away])
        along = (rays @ centre) / (rays * rays).sum(-1)
        gap = radius**2 - (((rays * along[..., None]) - centre) ** 2).sum(-1)
        step = np.sqrt(np.maximum(gap, 0) / (rays * rays).sum(-1))
        hit = np.where(gap > 0, along - step, np.inf)
        return hit, (rays * np.where(gap > 0, hit, 0)[..., None] - centre) / radius
    half = np.array([0.25, 1.0, 0.25]) if kind == "pillar" else random.uniform(0.3, 0.7, 3)
    half = half * random.uniform(0.8, 1.2)
    centre = np.array([aside, EYE - half[1], away])
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(centre - half) / rays, (centre + half) / rays])
    near, far = ends.min(0), ends.max(0)
    enter, leave = near.max(-1), far.min(-1)
    normal = -np.eye(3)[near.argmax(-1)] * np.sign(rays)
    return np.where((enter < leave) & (enter > 0), enter, np.inf), normal


def _told(picture: np.ndarray, depth: np.ndarray, classes: np.ndarray, things: np.ndarray, kinds: np.ndarray) -> Scene:
    """The scene with its things numbered anew: those of which at least 8 pixels are seen."""
    numbered = np.full(things.shape, -1)
    seen: list[int] = []
    boxes: list[list[int]] = []
    for number, kind in enumerate(kinds):
        here = things == number
        if here.sum() >= 8:
            numbered[here] = len(seen)
            rows, columns = np.nonzero(here)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            seen.append(int(kind))
    return Scene(picture, depth, classes, numbered, seen, np.array(boxes, dtype=np.float32).reshape(-1, 4))
