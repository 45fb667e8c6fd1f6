"""Evidence for slots that find the things of a picture by themselves, on rendered rooms.

A frozen random map of the pixels of each patch stands in the place of the paper's trained encoder.
"""

from __future__ import annotations

from functools import cache
from statistics import mean
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.convolution import resized
from everyformer.data.scenes import render
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.objectives import Objective, RebuiltCells, SelfTaughtSlots

_SIDE, _SLOTS, _STEPS, _BATCH = 48, 7, 800, 16
_TRAIN, _TEST = range(10_000, 10_400), range(20_000, 20_100)


@cache
def _rooms(seeds: range) -> tuple[Float[Tensor, "B 3 Y X"], Int[Tensor, "B Y X"]]:
    """Pictures, and which thing each of their pixels shows, -1 for none."""
    made = [render(seed, side=_SIDE) for seed in seeds]
    pictures = torch.from_numpy(np.stack([each.picture for each in made])).permute(0, 3, 1, 2).float()
    return (pictures - 128) / 64, torch.from_numpy(np.stack([each.things for each in made]))


def _trained(objective: Objective, orders: int, seed: int) -> nn.Module:
    """A design that learns by that objective, cells rebuilt in as many orders; what makes the cells is frozen."""
    model = ef.create(
        "spot-object-centric", image=_SIDE, patch=6, width=48, depth=0, slots=_SLOTS, slot_width=48, slot_hidden=96,
        orders=orders, decoder_depth=2, decoder_heads=4, seed=seed,
    )  # fmt: skip
    model.embedding.requires_grad_(False)
    pictures, _ = _rooms(_TRAIN)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def batch(step: int) -> dict[str, Tensor]:
        return {"inputs": pictures[torch.randint(len(pictures), (_BATCH,), generator=generator)]}

    return learn(model, objective, batch, _STEPS, lr=1e-3, rate=warmed(50), clip=1.0)


@cache
def _teacher(orders: int) -> nn.Module:
    return _trained(RebuiltCells(), orders, seed=0)


@cache
def _student() -> nn.Module:
    """The same design, taught by the masks of the first."""
    objective = SelfTaughtSlots()
    objective.teach(_teacher(9))
    return _trained(objective, 9, seed=1)


@torch.no_grad()
def _figures(model: nn.Module) -> dict[str, float]:
    """What the masks of a model have in common with the things of rooms that it has not seen."""
    pictures, things = _rooms(_TEST)
    masks = torch.cat([model(each) for each in pictures.split(_BATCH)])
    return compared(resized(masks, (_SIDE, _SIDE)).argmax(1), things)


def compared(found: Int[Tensor, "B Y X"], things: Int[Tensor, "B Y X"]) -> dict[str, float]:
    """Of parts of pictures and the things that are there: `ari`, the adjusted Rand index where a thing is, over pictures with
    several, and `mbo`, the largest IoU of each thing with a part, the mean over the things of a picture and the pictures.
    """
    from sklearn.metrics import adjusted_rand_score

    indices, overlaps = [], []
    for parts, truth in zip(found, things, strict=True):
        each = [truth == number for number in range(int(truth.max()) + 1)]
        if len(each) > 1:
            indices.append(adjusted_rand_score(truth[truth >= 0], parts[truth >= 0]))
        if each:
            overlaps.append(mean(max(_iou(parts == part, thing) for part in parts.unique()) for thing in each))
    return {"ari": mean(indices), "mbo": mean(overlaps)}


def _iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


def _shown(figures: dict[str, float]) -> str:
    return f"overlap {figures['mbo']:.3f} and Rand index {figures['ari']:.3f}"


@evidence(
    "spot-object-centric", kind="learns", claim="Its masks are nearer to the things of a room than equal blocks are."
)
def spot_learns() -> Finding:
    """As many upright stripes as there are slots, as of DINOSAUR's baseline."""
    stripes = torch.arange(_SIDE) * _SLOTS // _SIDE
    baseline = compared(stripes.expand(len(_TEST), _SIDE, _SIDE), _rooms(_TEST)[1])
    ours = _figures(_teacher(9))
    holds = ours["mbo"] > baseline["mbo"]
    return Finding(verdict(holds), f"{_shown(ours)}, of blocks {_shown(baseline)}", {"ours": ours, "blocks": baseline})


@evidence(
    "spot-object-centric", kind="claim", claim="Cells in random order make better masks than cells by rows (table 1)."
)
def spot_orders() -> Finding:
    """The same design in nine orders and in one."""
    figures = {"nine orders": _figures(_teacher(9)), "by rows": _figures(_teacher(1))}
    return _better(figures)


@evidence(
    "spot-object-centric", kind="claim", claim="A student's masks are better than those of its teacher (table 1)."
)
def spot_teaches() -> Finding:
    """The teacher of the other experiments, and a student that begins elsewhere."""
    return _better({"student": _figures(_student()), "teacher": _figures(_teacher(9))})


def _better(figures: dict[str, dict[str, float]]) -> Finding:
    """Whether the first of two overlaps more with the things."""
    first, second = figures.values()
    finding = "; ".join(f"{name}: {_shown(each)}" for name, each in figures.items())
    found: dict[str, Any] = dict(figures)
    return Finding(verdict(first["mbo"] > second["mbo"]), finding, found)
