"""Evidence for designs that answer several questions about a picture at once, on drawn plants."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.costs import parameters
from everyformer.data.tasks.segmentation import confusion, mean_iou
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.objectives import PixelsAndTraits

_SIDE, _SPECIES, _STAGES, _STEPS, _BATCH = 64, 3, 5, 1000, 16
_TRAIN, _TEST = range(60_000, 60_600), range(70_000, 70_200)
_PASSES = 5
_TASKS = {"pixels": (1.0, 0.0, 0.0), "figure": (0.0, 1.0, 0.0), "stage": (0.0, 0.0, 1.0)}
Plants = tuple[Float[Tensor, "B 3 Y X"], Int[Tensor, "B Y X"], Float[Tensor, " B"], Int[Tensor, " B"]]


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    """A plant on soil: its picture, the species at each pixel (0: soil), its height of 1, and its stage.

    The species is the hue, the height how far it reaches up, the stage how many leaves there are.
    """
    random = np.random.default_rng(seed)
    species, stage, height = random.integers(_SPECIES), random.integers(_STAGES), random.uniform(0.3, 0.9)
    y, x = (np.mgrid[:_SIDE, :_SIDE] + 0.5) / _SIDE
    foot, lean = random.uniform(0.35, 0.65), random.uniform(-0.15, 0.15)
    middle = foot + lean * (0.95 - y)
    plant = (np.abs(x - middle) < 0.02) & (y < 0.95) & (y > 0.95 - height)
    for number in range(2 * stage + 2):
        at = 0.95 - height * (0.2 + 0.8 * (number + 1) / (2 * stage + 2))
        aside = foot + lean * (0.95 - at) + (0.1 if number % 2 else -0.1)
        plant |= ((x - aside) / 0.1) ** 2 + ((y - at) / 0.035) ** 2 < 1
    hue = np.array([[0.2, 0.7, 0.2], [0.5, 0.65, 0.15], [0.15, 0.55, 0.45]])[species] * random.uniform(0.8, 1.2)
    soil = np.array([0.45, 0.33, 0.22]) * random.uniform(0.7, 1.3)
    colour = np.where(plant[..., None], hue, soil) + random.normal(0, 0.05, (_SIDE, _SIDE, 3))
    return colour.clip(0, 1), plant * (1 + species), height, int(stage)


@cache
def _plants(seeds: range) -> Plants:
    pictures, classes, heights, stages = zip(*map(_drawn, seeds), strict=True)
    shown = torch.from_numpy(np.stack(pictures)).float().permute(0, 3, 1, 2) * 2 - 1
    return shown, torch.from_numpy(np.stack(classes)), torch.tensor(heights).float(), torch.tensor(stages)


def _learnt(weights: tuple[float, float, float]) -> nn.Module:
    """A small design trained by losses so weighed. Its head for pixels is as wide as it says logits of a cell, as is the
    authors': of a quarter of that it said soil everywhere for 500 steps.
    """
    model = ef.create(
        "weedsense", classes=_SPECIES + 1, weeks=_STAGES, image=_SIDE, detail=(16, 32, 64), stem=8, semantic=(16, 32, 64),
        depths=(1, 1, 2), ratio=4.0, scale=1.0, hidden=256, deep=(0, 1), deep_hidden=16, width=48, heads=4, mlp=96,
        traits=(64, 48), dropout=0.0, trait_dropout=0.0, seed=0,
    )  # fmt: skip
    pictures, classes, heights, stages = _plants(_TRAIN)
    objective = PixelsAndTraits(weights=weights, share=0.8)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=torch.Generator().manual_seed(step))
        return {
            "inputs": pictures[chosen], "labels": classes[chosen], "figure": heights[chosen], "stage": stages[chosen]
        }  # fmt: skip

    return learn(model, objective, batch, _STEPS, lr=2e-3, rate=warmed(30), clip=1.0)


@cache
def _figures(*tasks: str) -> dict[str, Any]:
    """What a model that has learnt these tasks together says of plants that it has not seen, and what it costs: the fastest of
    some passes.
    """
    first, second, third = (sum(_TASKS[each][i] for each in tasks) for i in range(3))
    model: Any = _learnt((first, second, third))
    pictures, classes, heights, stages = _plants(_TEST)
    heads = {"pixels": model.head.head.head, "traits": model.head.head.beside[0]}
    asked = [head for head in heads if (head == "pixels") == ("pixels" in tasks) or len(tasks) > 1]
    said, seconds = dict[str, Tensor](), []
    for _ in range(_PASSES):
        started = time.perf_counter()
        with torch.no_grad():
            parts = [[heads[head](tokens) for head in asked] for tokens in map(model.features, pictures.split(50))]
        seconds.append(time.perf_counter() - started)
        said = {head: torch.cat(part) for head, part in zip(asked, zip(*parts, strict=True), strict=True)}
    figures: dict[str, Any] = {"seconds": min(seconds)}
    unused = sum(parameters(head) for name, head in heads.items() if name not in asked)
    figures["parameters"] = parameters(model.backbone) + parameters(model.head.head) - unused
    if "pixels" in said:
        told = said["pixels"].argmax(1)
        figures["miou"] = mean_iou(confusion(told, classes, _SPECIES + 1))
    if "traits" in said:
        traits = said["traits"]
        figures["height"] = float((traits[:, 0] - heights).abs().mean())
        figures["stage"] = float((traits[:, 1:].argmax(1) == stages).float().mean())
    return figures


@evidence(
    "weedsense", kind="learns", claim="One model says species, height and stage of drawn plants, all far above a guess."
)
def weedsense_learns() -> Finding:
    """The guesses: soil everywhere, the median height, the commonest stage."""
    ours = _figures(*_TASKS)
    _, _, heights, stages = _plants(_TEST)
    median = _plants(_TRAIN)[2].median()
    guess = {"height": float((heights - median).abs().mean()), "stage": float(stages.bincount().max() / len(stages))}
    holds = ours["miou"] > 0.6 and ours["height"] < guess["height"] / 2 and ours["stage"] > 1.5 * guess["stage"]
    found = (
        f"mIoU {ours['miou']:.3f}, height off by {ours['height']:.3f} (median {guess['height']:.3f}), stage "
        f"{ours['stage']:.3f} (commonest {guess['stage']:.3f})"
    )
    return Finding(verdict(holds), found, {"ours": ours, "guess": guess})


@evidence(
    "weedsense",
    kind="claim",
    claim="Together the tasks need less than half the time and fewer parameters than three models, and are as well done.",
)
def weedsense_together() -> Finding:
    """The same design and steps, on all tasks or on each alone; at most a tenth worse on each."""
    ours, alone = _figures(*_TASKS), {task: _figures(task) for task in _TASKS}
    seconds, size = (sum(each[cost] for each in alone.values()) for cost in ("seconds", "parameters"))
    well = (
        ours["miou"] > 0.9 * alone["pixels"]["miou"]
        and ours["height"] < 1.1 * alone["figure"]["height"]
        and ours["stage"] > 0.9 * alone["stage"]["stage"]
    )
    found = (
        f"{ours['seconds']:.2f} s against {seconds:.2f} s, {ours['parameters']:,} against {size:,} parameters; mIoU {ours['miou']:.3f} against {alone['pixels']['miou']:.3f}, "
        f"height off by {ours['height']:.3f} against {alone['figure']['height']:.3f}, stage {ours['stage']:.3f} against "
        f"{alone['stage']['stage']:.3f}"
    )
    less = ours["seconds"] < seconds / 2 and ours["parameters"] < size
    return Finding(verdict(well and less), found, {"together": ours, "alone": alone})
