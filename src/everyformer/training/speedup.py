"""A trained run made faster on its own data: what loses least for the time it saves, of fewer tokens, fewer bits and no padding."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.compression import int8, smoothquant
from everyformer.costs import flops, on_meta
from everyformer.data import Task, find_task
from everyformer.data.decoding import changed
from everyformer.designs import Design, design_of
from everyformer.errors import BadInput, DoesNotFit, UnknownName
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
    milliseconds: float = 0.0
    """Of the processor, for the batch that was timed."""
    refused: str = ""
    """Why it was not tried, where it was not."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Options of the data that go with it."""


def tried(
    run: Run, task: Task, *, budget: float, split: str = "valid", batch: int = 32
) -> Iterator[tuple[Try, nn.Module]]:
    """Texts without padding, every reduction at FLOPs falling to `budget` times the model's, and products in 8 bits, with the
    model that each gives.
    """
    if not 0 < budget < 1:
        raise BadInput(f"a budget is a share of what the model costs now, between 0 and 1; given {budget}")
    model, design = run.model, design_of(run.model)
    at_once = inputs(task, split, batch)
    plain = task.evaluate(model, split).metrics[task.metric]

    def measured(name: str, keep: float, made: nn.Module, cost: float, on: Task, **data: Any) -> tuple[Try, nn.Module]:
        metric = on.evaluate(made, split).metrics[on.metric]
        needed, before = seconds(made, inputs(on, split, batch)), seconds(model, at_once)
        lose = lost(plain, metric, task.better)
        return Try(name, keep, metric, lose, before / needed, cost, 1000 * needed, data=data), made

    yield Try("as it is", 1.0, plain, 0.0, 1.0, 1.0, 1000 * seconds(model, at_once)), model
    without = packed(task, split)
    if without is not None:
        try:
            yield measured("Packed", 1.0, model, real_share(design, at_once), without, packed=True)
        except UnknownName as error:
            yield Try("Packed", 1.0, plain, 0.0, 1.0, 1.0, refused=str(error)), model
    whole = flops(on_meta(design))[""]
    for part in TRAINING_FREE:
        for share in ((1 + 2 * budget) / 3, budget):
            try:
                new = keep_for(design, spec(part), share)
                made = reduced(model, new, restore=unreduced(model))
            except DoesNotFit as error:
                yield Try(part.__name__, share, plain, 0.0, 1.0, 1.0, refused=str(error)), model
                break
            cost = flops(on_meta(design_of(made)))[""] / whole
            yield measured(part.__name__, new.get("keep"), made, cost, task)
    for name, method in METHODS.items():
        yield measured(name, 1.0, method(model, calibration(task, SAMPLES)), 1.0, task)


def share_of(budget: str, model: nn.Module, at_once: Mapping[str, Tensor]) -> float:
    """A budget as a share of the time that the model takes: '0.6' is one, '12ms' is processor milliseconds for the batch."""
    found = re.fullmatch(r"([0-9.]+) *(ms)?", budget)
    if found is None or found[1].count(".") > 1 or found[1] == ".":
        raise BadInput(f"a budget is a share of the time, such as 0.6, or milliseconds, such as 12ms; given '{budget}'")
    if found[2] is None:
        return float(found[1])
    takes = 1000 * seconds(model, at_once)
    if not 0 < float(found[1]) < takes:
        raise BadInput(
            f"the model takes {takes:.3g} ms for a batch; give a budget above 0 and below that; given {budget}"
        )
    return float(found[1]) / takes


def packed(task: Task, split: str) -> Task | None:
    """The task with its texts one after the other, where it can put them so, does not yet, and they are of different lengths."""
    if getattr(task.options, "packed", True) or len({*(task.costs(split) or ())}) < 2:
        return None
    return with_data(task, packed=True)


def with_data(task: Task, **options: Any) -> Task:
    """The task with other options of its data, which was read already."""
    made = copy.copy(task)
    made.options = dataclasses.replace(task.options, **options)
    return made


def real_share(design: Design, padded: Mapping[str, Tensor]) -> float:
    """The FLOPs of the texts of a batch one by one, as a share of those of the padded batch."""
    ids, model = padded["inputs"], on_meta(design)
    lengths = padded["mask"].sum(1).tolist() if "mask" in padded else [ids.shape[1]] * len(ids)
    one = {n: flops(model, {"inputs": ids[:1, :n]})[""] for n in {*lengths, ids.shape[1]}}
    return sum(one[n] for n in lengths) / (one[ids.shape[1]] * len(ids))


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


def keep_as(
    run: Run,
    model: nn.Module,
    folder: Path,
    *,
    decoding: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **said: Any,
) -> Run:
    """A run of its own: the recipe and transforms of `run`, with this model; `said` is added to the result.

    `decoding` and `data` change single options of the recipe's.
    """
    recipe = dataclasses.replace(
        run.recipe, decoding=changed(run.recipe.decoding, decoding or {}), data={**run.recipe.data, **(data or {})}
    )
    return save_whole(folder, recipe, with_data(run.task, **(data or {})), model, {**run.result, **said})
