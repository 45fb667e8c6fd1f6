"""A trained run made faster on its own data: which reduction or rounding loses least for the time it saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.compression import int8, smoothquant
from everyformer.costs import flops, on_meta
from everyformer.data import Task, find_task
from everyformer.data.decoding import changed
from everyformer.designs import design_of
from everyformer.errors import BadInput, DoesNotFit
from everyformer.heads import ClassHead
from everyformer.reduction import (
    ClassAttention,
    EViT,
    PiToMe,
    PiToMeText,
    TokenTransforming,
    ToMe,
    ZeroTPrune,
    keep_for,
    reduced,
)
from everyformer.reduction.applying import seconds
from everyformer.specs import spec
from everyformer.training.run import Run, save_whole

METHODS = {"Int8": int8, "SmoothQuant": smoothquant}
"""What makes every map faster, on the processor at hand."""
SAMPLES, AT_ONCE = 64, 16
"""How many samples a method learns from, and how many at once."""
TRAINING_FREE = (ToMe, PiToMe, PiToMeText, ClassAttention, EViT, ZeroTPrune, TokenTransforming)
"""The reductions that a trained model takes as it is."""


@dataclass(frozen=True)
class Try:
    """One way to make a model faster, as measured beside the model itself."""

    name: str
    keep: float
    metric: float
    loss: float
    """How much worse the metric is, in points: hundredths of a share, or units of the metric."""
    speed: float
    """Times as fast as the model itself, in processor time; below 1: slower."""
    flops: float
    """Share of the model's FLOPs."""
    refused: str = ""
    """Why it was not tried, where it was not."""


def tried(
    run: Run, task: Task, *, budget: float, split: str = "valid", batch: int = 32
) -> Iterator[tuple[Try, nn.Module]]:
    """Every reduction at FLOPs falling to `budget` times the model's, and products in 8 bits, with the model that each gives."""
    if not 0 < budget < 1:
        raise BadInput(f"a budget is a share of what the model costs now, between 0 and 1; given {budget}")
    model, design = run.model, design_of(run.model)
    at_once = inputs(task, split, batch)
    plain = task.evaluate(model, split).metrics[task.metric]
    yield Try("as it is", 1.0, plain, 0.0, 1.0, 1.0), model
    whole = flops(on_meta(design))[""]
    for part in TRAINING_FREE:
        for share in ((1 + 2 * budget) / 3, budget):
            try:
                new = keep_for(design, spec(part), share)
                made = reduced(model, new, restore=unreduced(model))
            except DoesNotFit as error:
                yield Try(part.__name__, share, plain, 0.0, 1.0, 1.0, refused=str(error)), model
                break
            metric = task.evaluate(made, split).metrics[task.metric]
            speed = seconds(model, at_once) / seconds(made, at_once)
            cost = flops(on_meta(design_of(made)))[""] / whole
            yield Try(part.__name__, new.get("keep"), metric, lost(plain, metric, task.better), speed, cost), made
    for name, method in METHODS.items():
        made = method(model, calibration(task, SAMPLES))
        metric = task.evaluate(made, split).metrics[task.metric]
        speed = seconds(model, at_once) / seconds(made, at_once)
        yield Try(name, 1.0, metric, lost(plain, metric, task.better), speed, 1.0), made


def best(found: list[tuple[Try, nn.Module]], *, budget: float, max_loss: float) -> tuple[Try, nn.Module] | None:
    """The fastest that needs at most `budget` of the time and loses at most `max_loss` points; None for none."""
    fitting = [
        each for each in found if not each[0].refused and each[0].loss <= max_loss and each[0].speed * budget >= 1
    ]
    return max(fitting, key=lambda each: each[0].speed, default=None)


def unreduced(model: nn.Module) -> bool:
    """Whether a head answers for every token, so that none may be gone."""
    return not isinstance(getattr(model, "head", None), (ClassHead, NoneType))


def lost(before: float, after: float, better: str) -> float:
    """How much worse a metric is, in points: hundredths of a share, or units of the metric."""
    return (before - after if better == "max" else after - before) * (100 if abs(before) <= 1 else 1)


def calibration(task: Task, samples: int) -> list[dict[str, Tensor]]:
    """Samples of the training part, evenly spaced, as batches."""
    size = task.size("train")
    if samples < 1:
        raise BadInput(f"a method learns from at least one sample; given {samples}")
    if not size:
        raise BadInput("there is no training part to calibrate on; give data that has one")
    chosen = torch.linspace(0, size - 1, min(samples, size)).long().tolist()
    return [task.batch("train", chosen[start : start + AT_ONCE]) for start in range(0, len(chosen), AT_ONCE)]


def inputs(task: Task, split: str, batch: int) -> Mapping[str, Tensor]:
    """What the model is given for the first samples of a part."""
    given = task.batch(split, list(range(min(batch, task.size(split)))))
    return {name: value for name, value in given.items() if name != "labels"}


def data_of(run: Run, path: str | None) -> Task:
    """The task of a run on its own data, or on that at a path."""
    data: dict[str, Any] = dict(run.recipe.data)
    if path is not None:
        data = {name: value for name, value in data.items() if name != "source"} | {"path": path}
    return find_task(run.recipe.task).open(**data)


def keep_as(run: Run, model: nn.Module, folder: Path, *, decoding: Mapping[str, Any] | None = None, **said: Any) -> Run:
    """A run of its own: the recipe and transforms of `run`, with this model; `said` is added to the result.

    `decoding` changes single options of the recipe's.
    """
    recipe = dataclasses.replace(run.recipe, decoding=changed(run.recipe.decoding, decoding or {}))
    return save_whole(folder, recipe, run.task, model, {**run.result, **said})
