"""A trained run made smaller or faster by published methods, one after the other, each told by what it cost and gained."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml
from torch import Tensor, nn

from everyformer.costs import memory, processor_seconds
from everyformer.data import Task
from everyformer.errors import BadInput
from everyformer.registry import Method, find_published
from everyformer.specs import check
from everyformer.training.speedup import calibration, inputs, lost

ROOMS = ("compression", "reduction")
"""The rooms whose methods give another model."""


@dataclass(frozen=True)
class Step:
    """A method with its options."""

    method: Method
    options: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> Step:
        """A step as it is written: `gptq,bits=4,group=64`."""
        name, *written = text.split(",")
        found = find_published(name.strip())
        if not isinstance(found, Method) or found.make.__module__.split(".")[1] not in ROOMS:
            raise BadInput(
                f"'{name}' is not a method that makes a trained model smaller; `everyformer list` shows which are"
            )
        options = {}
        for each in written:
            key, sign, value = each.partition("=")
            if not sign:
                raise BadInput(f"the options of a method are NAME,key=value; given '{each}' in '{text}'")
            options[key.strip()] = _read(value)
        check(found.make, options)
        return cls(found, options)

    def apply(self, model: nn.Module, task: Task, batches: Sequence[dict[str, Tensor]]) -> nn.Module:
        """The model that the method makes; it is given the data and what is minimised where it asks for them."""
        asked = inspect.signature(self.method.make).parameters
        given: dict[str, Any] = {"calibration": batches} if "calibration" in asked else {}
        if "objective" in asked:
            given["objective"] = task.objective().build()
        made: nn.Module = self.method.make(model, **given, **self.options)
        return made

    def __str__(self) -> str:
        return ",".join([self.method.name, *(f"{key}={value}" for key, value in self.options.items())])


@dataclass(frozen=True)
class Stage:
    """A model after some steps, as measured beside the first."""

    name: str
    metric: float
    loss: float
    """How much worse the metric is than at first, in points: hundredths of a share, or units of the metric."""
    bytes: int
    """Of all weights."""
    milliseconds: float
    """Processor time of a pass."""
    speed: float
    """Times as fast as at first."""


def shrunk(
    model: nn.Module, task: Task, steps: Sequence[Step], *, samples: int = 128, split: str = "valid", batch: int = 32
) -> Iterator[tuple[Stage, nn.Module]]:
    """The model, and what each step makes of the one before."""
    batches = calibration(task, samples)
    given = inputs(task, split, batch)
    figure = task.watched[0]
    made, plain = model, task.evaluate(model, split).metrics[figure]
    for step in (None, *steps):
        made = made if step is None else step.apply(made, task, batches)
        metric = plain if step is None else task.evaluate(made, split).metrics[figure]
        before, after = processor_seconds(partial(model, **given), partial(made, **given))
        points = lost(plain, metric, task.watched[1])
        yield Stage(str(step or "as it is"), metric, points, memory(made), 1000 * after, before / after), made


def _read(value: str) -> Any:
    """A number, a word, true or false, as YAML has them; a pattern of paths, which is none of these, as it is."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
