"""Evidence for designs that find small things, on rendered dots among clutter."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import everyformer as ef
from everyformer.boxes import corners
from everyformer.data.precision import Precision
from everyformer.data.tasks.detection import told
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.objectives import Boxes, HeatBoxes
from everyformer.objectives.base import IGNORED

_SIDE, _MOST, _STEPS, _BATCH = 64, 6, 1200, 16
_TRAIN, _TEST = range(80_000, 80_800), range(90_000, 90_200)
_SAME: dict[str, Any] = {
    "classes": 2, "image": _SIDE, "stem": 16, "width": 48, "depth": 1, "heads": 4, "hidden": 96, "queries": 12,
    "dropout": 0.0, "seed": 0,
}  # fmt: skip
_DESIGNS: dict[str, dict[str, Any]] = {
    "heat, 3 layers": {"name": "hmpe", "convs": (1, 1), "levels": (0, 1), "decoder_depth": 3},
    "learned, 3 layers": {"name": "detr", "convs": (1,), "decoder_depth": 3},
    "learned, 6 layers": {"name": "detr", "convs": (1,), "decoder_depth": 6},
}


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of squares (class 0) and discs (class 1) of 3 to 5 pixels among lines and noise, and (T, 5) labels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:_SIDE, :_SIDE]
    colour = np.full((_SIDE, _SIDE, 3), random.uniform(0.2, 0.6)) + random.normal(0, 0.06, (_SIDE, _SIDE, 3))
    for _ in range(random.integers(2, 6)):
        turn, off = random.uniform(0, np.pi), random.uniform(-20, 84)
        colour[np.abs(x * np.cos(turn) + y * np.sin(turn) - off) < 0.7] += random.uniform(-0.25, 0.25, 3)
    labels = np.full((_MOST, 5), float(IGNORED))
    for number in range(random.integers(1, _MOST + 1)):
        kind, side = random.integers(2), random.integers(3, 6)
        left, top = random.integers(0, _SIDE - side, 2)
        middle = (left + (side - 1) / 2, top + (side - 1) / 2)
        inside = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
        if kind:
            inside &= (x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= (side / 2) ** 2 - 0.3
        colour[inside] = np.array([[0.9, 0.75, 0.2], [0.2, 0.75, 0.9]])[kind] * random.uniform(0.85, 1.1)
        labels[number] = (kind, *((each + 0.5) / _SIDE for each in middle), side / _SIDE, side / _SIDE)
    return colour.clip(0, 1), labels


@cache
def _pictures(seeds: range) -> tuple[Float[Tensor, "B 3 Y X"], Float[Tensor, "B T 5"]]:
    shown, labels = zip(*map(_drawn, seeds), strict=True)
    return (
        torch.from_numpy(np.stack(shown)).float().permute(0, 3, 1, 2) * 2 - 1, torch.from_numpy(np.stack(labels)).float()
    )  # fmt: skip


def _learnt(of: str) -> nn.Module:
    options = {**_SAME, **_DESIGNS[of]}
    model = ef.create(options.pop("name"), **options)
    pictures, labels = _pictures(_TRAIN)
    objective = HeatBoxes() if of.startswith("heat") else Boxes()

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=torch.Generator().manual_seed(step))
        return {"inputs": pictures[chosen], "labels": labels[chosen]}

    return learn(model, objective, batch, _STEPS, lr=1e-3, rate=warmed(50), clip=1.0)


@cache
def _figures(of: str) -> dict[str, float]:
    """The average precision on pictures that were not seen."""
    model, precision = _learnt(of), Precision()
    pictures, labels = _pictures(_TEST)
    with torch.no_grad():
        answers = torch.cat([model(each) for each in pictures.split(50)])
    for answer, own in zip(answers, labels, strict=True):
        real = own[own[:, 0] != IGNORED]
        precision.add(*told(answer), corners(real[:, 1:]), real[:, 0].long())
    return precision.figures()


@evidence("hmpe", kind="learns", claim="Finds most of the dots of 3 to 5 pixels in clutter that it has not seen.")
def hmpe_learns() -> Finding:
    """Average precision at half of the union; a guess finds next to nothing among so many places."""
    ours = _figures("heat, 3 layers")
    found = f"average precision at 0.5 {ours['ap50']:.4f} (over all thresholds {ours['ap']:.4f})"
    return Finding(verdict(ours["ap50"] > 0.5), found, ours)


@evidence(
    "hmpe",
    kind="claim",
    claim="Three layers that begin at peaks of heat are above three with learned queries, and not below six.",
)
def hmpe_layers() -> Finding:
    """The same widths and steps; all look at cells of four pixels, heat at a second, coarser level of its residual network too."""
    found = {of: _figures(of)["ap50"] for of in _DESIGNS}
    ours, three, six = found.values()
    told_of = ", ".join(f"{value:.4f} {of}" for of, value in found.items())
    return Finding(verdict(ours > three and ours >= six), f"average precision at 0.5 {told_of}", found)
