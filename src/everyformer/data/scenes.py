"""Rendered scenes with exact ground truth: a room with balls, boxes and pillars, ray by ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

KINDS = ("ball", "box", "pillar")
"""What stands in a room."""
GROUND = ("wall", "floor")
RELATIONS = ("nothing", "left of", "right of", "hides", "hidden by", "in front of", "behind")
"""What a thing is to another one, from frequent to rare."""
_NEAR, _COVERED = 0.4, 0.15
"""How far apart two things have something to do with each other, in widths of the picture, and which share of the smaller
box the other one covers that hides it.
"""
Place = tuple[float, float, float]
ORIGIN: Place = (0.0, 0.0, 0.0)
"""Where the eye is: how far to the right of its usual place, below and ahead of it."""
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
    return render_views(seed, (ORIGIN,), side, most)[0]


def render_views(
    seed: int,
    eyes: Sequence[Place],
    side: int = 64,
    most: int = 5,
    *,
    noise: float = 0.02,
    pattern: float = 0.0,
) -> list[Scene]:
    """The scene of a seed seen from several places, all with the same axis of view; what is seen from the first does not depend
    on the others. `noise` is that of each picture, `pattern` how strongly everything is marbled, of 1.
    """
    random = np.random.default_rng(seed)
    light = np.array([random.uniform(-0.7, 0.7), 1.0, 0.8])
    light /= np.linalg.norm(light)
    tint = random.uniform(0.3, 0.8, (2, 3))
    kinds = random.integers(0, len(KINDS), random.integers(1, most + 1))
    things = [(_thing(KINDS[kind], random), random.uniform(0.15, 1.0, 3)) for kind in kinds]
    rays, views = rays_of(side), []
    for eye in eyes:
        depth, classes, which, colour = _seen(np.asarray(eye, float), rays, tint, kinds, things, light)
        if pattern:
            colour = colour * (1 + pattern * _marble(rays * depth[..., None] + eye))[..., None]
        fog = 1 - 0.4 * (depth / FAR)[..., None]
        noisy = colour * fog + random.normal(0, noise, colour.shape)
        picture = (noisy.clip(0, 1) * 255).astype(np.uint8)
        views.append(_told(picture, depth.astype(np.float32), classes, which, kinds))
    return views


def related(scene: Scene) -> list[tuple[int, int, int]]:
    """Subject, object and relation of every two things: the rarest that holds."""
    side = scene.picture.shape[0]
    depths = [float(scene.depth[scene.things == number].mean()) for number in range(len(scene.kinds))]
    found = []
    for a, b in permutations(range(len(scene.kinds)), 2):
        one, other = scene.boxes[a] / side, scene.boxes[b] / side
        inner = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0)
        least = min((box[2:] - box[:2]).prod() for box in (one, other))
        nearer = depths[a] < depths[b]
        apart = (one[0] + one[2] - other[0] - other[2]) / 2
        if inner.prod() > _COVERED * least:
            name = "hides" if nearer else "hidden by"
        elif inner[0] > 0:
            name = "in front of" if nearer else "behind"
        elif abs(apart) < _NEAR:
            name = "left of" if apart < 0 else "right of"
        else:
            name = "nothing"
        found.append((a, b, RELATIONS.index(name)))
    return found


def lens_of(side: int) -> Float[np.ndarray, "3 3"]:
    """What leads a point to its place in a picture of that side, in pixels, where the first pixel's middle is at a half."""
    return side * np.array([[FOCAL, 0, 0.5], [0, FOCAL, HORIZON], [0, 0, 1 / side]])


def rays_of(side: int) -> Float[np.ndarray, "Y X 3"]:
    """Where each pixel looks: to the right, down, and 1 ahead."""
    y, x = np.mgrid[:side, :side]
    return np.stack([(x + 0.5) / side - 0.5, (y + 0.5) / side - HORIZON, np.full(x.shape, FOCAL)], -1) / FOCAL


def seen(aside: Float[np.ndarray, "*n"], away: Float[np.ndarray, "*n"]) -> tuple[np.ndarray, np.ndarray]:
    """Where in the picture the floor is seen, x and y as shares of its sides."""
    return 0.5 + FOCAL * aside / away, HORIZON + FOCAL * EYE / away


def floor(
    rays: Float[np.ndarray, "Y X 3"],
    eye: Float[np.ndarray, "3"] = np.zeros(3),  # noqa: B008
) -> tuple[Float[np.ndarray, "Y X"], Bool[np.ndarray, "Y X"]]:
    """How far away the wall or the floor is, and which pixels show the floor."""
    high, far = EYE - eye[1], FAR - eye[2]
    depth, down = np.full(rays.shape[:2], far), rays[..., 1] > high / far
    depth[down] = high / rays[..., 1][down]
    return depth, down


@dataclass(frozen=True)
class _Ball:
    centre: Float[np.ndarray, "3"]
    radius: float

    def met(self, rays: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How deep each ray meets it (infinite where not), and the normal there."""
        centre = self.centre - eye
        along = (rays @ centre) / (rays * rays).sum(-1)
        gap = self.radius**2 - (((rays * along[..., None]) - centre) ** 2).sum(-1)
        step = np.sqrt(np.maximum(gap, 0) / (rays * rays).sum(-1))
        hit = np.where(gap > 0, along - step, np.inf)
        return hit, (rays * np.where(gap > 0, hit, 0)[..., None] - centre) / self.radius


@dataclass(frozen=True)
class _Box:
    centre: Float[np.ndarray, "3"]
    half: Float[np.ndarray, "3"]

    def met(self, rays: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How deep each ray meets it (infinite where not), and the normal there."""
        centre = self.centre - eye
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([(centre - self.half) / rays, (centre + self.half) / rays])
        near, far = ends.min(0), ends.max(0)
        enter, leave = near.max(-1), far.min(-1)
        normal = -np.eye(3)[near.argmax(-1)] * np.sign(rays)
        return np.where((enter < leave) & (enter > 0), enter, np.inf), normal


def _thing(kind: str, random: np.random.Generator) -> _Ball | _Box:
    """A thing at a random place on the floor."""
    away = random.uniform(3.0, 9.0)
    aside = random.uniform(-0.4, 0.4) * away
    if kind == "ball":
        radius = random.uniform(0.4, 0.9)
        return _Ball(np.array([aside, EYE - radius, away]), radius)
    half = np.array([0.25, 1.0, 0.25]) if kind == "pillar" else random.uniform(0.3, 0.7, 3)
    half = half * random.uniform(0.8, 1.2)
    return _Box(np.array([aside, EYE - half[1], away]), half)


def _seen(
    eye: Float[np.ndarray, "3"],
    rays: Float[np.ndarray, "Y X 3"],
    tint: Float[np.ndarray, "2 3"],
    kinds: Int[np.ndarray, " N"],
    things: Sequence[tuple[_Ball | _Box, Float[np.ndarray, "3"]]],
    light: Float[np.ndarray, "3"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How deep each pixel sees, what and which thing, and its colour without fog."""
    depth, down = floor(rays, eye)
    classes = down.astype(np.int64)
    which = np.full(depth.shape, -1)
    colour = np.empty((*depth.shape, 3))
    point = rays * depth[..., None] + eye
    tiles = (np.floor(point[..., 0]) + np.floor(point[..., 2])) % 2
    colour[:] = tint[0]
    colour[down] = tint[1] * (0.7 + 0.3 * tiles[down][:, None])
    for number, (kind, (thing, own)) in enumerate(zip(kinds, things, strict=True)):
        hit, normal = thing.met(rays, eye)
        nearer = hit < depth
        depth[nearer], classes[nearer], which[nearer] = hit[nearer], len(GROUND) + kind, number
        shade = 0.45 + 0.55 * np.clip(-(normal @ light), 0, 1)
        colour[nearer] = own * shade[nearer][:, None]
    return depth, classes, which, colour


def _marble(points: Float[np.ndarray, "Y X 3"]) -> Float[np.ndarray, "Y X"]:
    """A pattern that fills the room, -1 to 1: what a thing shows of it stays where it is when the eye moves."""
    waves = np.array([[2.3, 0.7, 1.1], [-1.3, 2.9, 0.5], [0.9, -1.7, 3.1], [4.1, 3.7, -2.9]])
    return np.sin(points @ waves.T + np.sin(points[..., [1, 2, 0, 1]] * 2.3)).mean(-1)


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
