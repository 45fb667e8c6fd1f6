"""A trained model made smaller or faster by published methods, one after the other, each told by what it cost and gained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import yaml
from torch import Tensor, nn

from everyformer.cache import Policy
from everyformer.columns import Storage
from everyformer.costs import memory, processor_seconds
from everyformer.data import Task
from everyformer.data.decoding import Decoding, kinds, made_of, named
from everyformer.errors import BadInput, EveryformerError
from everyformer.generation import Strategy, read_stream
from everyformer.models import Model
from everyformer.objectives.base import LABELS
from everyformer.reduction import reduced
from everyformer.registry import Method, find_published
from everyformer.specs import Spec, check
from everyformer.training.speedup import TRAINING_FREE, calibration, inputs, lost, unreduced

ROOMS = ("compression", "reduction")
"""The rooms whose methods give another model."""
HELD: dict[str, type] = {"policy": Policy, "storage": Storage, "strategy": Strategy}
"""What a `decoding` section says that keeps the model as it is: which tokens a cache keeps, how, and how tokens are chosen."""
REDUCTIONS = {part.__name__.lower(): part for part in TRAINING_FREE}
WRITTEN = 32
"""Tokens that are generated to time it, at most."""


@dataclass(frozen=True)
class Made:
    """A model, and what its `decoding` says beside what it said at first."""

    model: nn.Module
    decoding: Mapping[str, Any] = field(default_factory=dict)


class Step:
    """Base of steps; `str` gives one as it is written."""

    @staticmethod
    def read(text: str) -> Step:
        """A step as it is written.

        `gptq,bits=4,group=64` is a method, `tome,keep=0.7` a reduction of tokens, `tova,keep=0.5` what a cache keeps.
        """
        name, *written = text.split(",")
        for place, base in HELD.items():
            if name.strip() in kinds(base):
                made_of(base, f"decoding.{place}", text)
                return Held(place, text)
        if name.strip() in REDUCTIONS:
            _, plain = named(text, "a step")
            return Changed(text, _reducing(Spec(REDUCTIONS[name.strip()], plain)))
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
        return Applied(found, options)

    def apply(self, before: Made, task: Task, batches: Sequence[dict[str, Tensor]]) -> Made:
        """What the step makes of what was there; it is given the data where it asks for them."""
        raise NotImplementedError


@dataclass(frozen=True)
class Applied(Step):
    """A method with its options, which gives another model."""

    method: Method
    options: dict[str, Any]

    def apply(self, before: Made, task: Task, batches: Sequence[dict[str, Tensor]]) -> Made:
        """The model that the method makes; it is given the data and what is minimised where it asks for them."""
        asked = inspect.signature(self.method.make).parameters
        given: dict[str, Any] = {"calibration": batches} if "calibration" in asked else {}
        if "objective" in asked:
            given["objective"] = task.objective().build()
        return Made(self.method.make(before.model, **given, **self.options), before.decoding)

    def __str__(self) -> str:
        return ",".join([self.method.name, *(f"{key}={value}" for key, value in self.options.items())])


@dataclass(frozen=True)
class Changed(Step):
    """A function that gives another model, as a step of that name."""

    name: str
    change: Callable[[nn.Module], nn.Module]

    def apply(self, before: Made, task: Task, batches: Sequence[dict[str, Tensor]]) -> Made:
        """What the function gives."""
        return Made(self.change(before.model), before.decoding)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Held(Step):
    """The same model, generating with a cache or a strategy of its own."""

    place: str
    written: str

    def apply(self, before: Made, task: Task, batches: Sequence[dict[str, Tensor]]) -> Made:
        """The model with its `decoding` changed; a task that writes no text is refused."""
        if not task.generates:
            raise BadInput(f"'{self}' is for models that write text token by token, and this is {task.name}")
        return Made(before.model, {**before.decoding, self.place: self.written})

    def __str__(self) -> str:
        return self.written


@dataclass(frozen=True)
class Stage:
    """A model after some steps, as measured beside the first."""

    name: str
    figure: str
    """The name of the metric."""
    metric: float
    loss: float
    """How much worse the metric is than at first, in points: hundredths of a share, or units of the metric."""
    bytes: int
    """Of all weights."""
    milliseconds: float
    """Processor time of a pass."""
    speed: float
    """Times as fast as at first."""
    tokens_per_second: float | None = None
    """New tokens a processor second, one text at a time, where text is written."""
    cache_bytes: int | None = None
    """What the cache of one sample then holds, where there is one and no encoder."""


@dataclass(frozen=True)
class Refusal:
    """Steps that do not fit a model, and why."""

    name: str
    refused: str


@dataclass
class Beside:
    """What is measured of models beside the first one, on the same samples."""

    first: Made
    task: Task
    samples: int = 128
    """Samples of the training part that methods look at."""
    split: str = "valid"
    batch: int = 32
    """Samples at once, for the times."""
    plain: dict[str, float] = field(default_factory=dict)
    """The figures of the first model that are known already."""

    @cached_property
    def batches(self) -> list[dict[str, Tensor]]:
        """What the methods look at."""
        return calibration(self.task, self.samples)

    def step(self, before: Made, step: Step) -> Made:
        """What a step makes of a model."""
        return step.apply(before, self.task, self.batches)

    def stage(self, name: str, made: Made, steps: Sequence[Step]) -> Stage:
        """A model as measured: by the figure that tells `steps` apart, and timed in turns with the first."""
        figure, better = figure_of(self.task, steps)
        if figure not in self.plain:
            self.plain[figure] = self.score(self.first, figure)
        metric = self.plain[figure] if made is self.first else self.score(made, figure)
        given = inputs(self.task, self.split, self.batch)
        before, after = processor_seconds(partial(self.first.model, **given), partial(made.model, **given))
        pace, held = self.writing(made) if self.task.generates else (None, None)
        points = lost(self.plain[figure], metric, better)
        return Stage(
            name, figure, metric, points, memory(made.model), 1000 * after, before / after, pace, held
        )  # fmt: skip

    def score(self, made: Made, figure: str) -> float:
        """A figure of the part; text is generated greedily where nothing else is said and the figure asks for text."""
        decoding = {"strategy": "greedy", **made.decoding} if made.decoding or figure != self.task.watched[0] else None
        return self.task.evaluate(made.model, self.split, decoding=decoding).metrics[figure]

    def writing(self, made: Made) -> tuple[float, int | None]:
        """New tokens a processor second, and what the cache of a decoder holds after the first sample."""
        chosen, batch = Decoding.of({"strategy": "greedy", **made.decoding}), self.task.batch(self.split, [0])
        ids, words, length = batch["inputs"], self.task.vocabulary, self.task.options.length  # type: ignore[attr-defined]
        ends = {"eos": None, "pad": words.pad, "pieces": words.pieces}
        if not isinstance(made.model, Model):
            most, held = min(WRITTEN, length), None
            write = partial(chosen.generate, made.model, ids, bos=words.begin, max_tokens=most, **ends)
        else:
            ids = ids[:, batch[LABELS][0] >= 0]
            most, prompt = min(WRITTEN, length - length // 2), ids[:, : length // 2]
            held = read_stream(made.model, ids, chosen.policy, storage=chosen.storage)[1]
            write = partial(chosen.generate, made.model, prompt, bos=None, max_tokens=most, **ends)
        return most / processor_seconds(write, repeats=3)[0], held


def figure_of(task: Task, steps: Sequence[Step]) -> tuple[str, str]:
    """The metric that tells these steps apart, and which way is better: of generated text, where they change that."""
    return (task.metric, task.better) if any(isinstance(step, Held) for step in steps) else task.watched


def shrunk(model: nn.Module, task: Task, steps: Sequence[Step], **options: Any) -> Iterator[tuple[Stage, Made]]:
    """The model, and what each step makes of the one before; the options are those of `Beside`."""
    made = Made(model)
    beside = Beside(made, task, **options)
    yield beside.stage("as it is", made, steps), made
    for step in steps:
        made = beside.step(made, step)
        yield beside.stage(str(step), made, steps), made


def compared(
    model: nn.Module, task: Task, stacks: Sequence[Sequence[Step]], **options: Any
) -> Iterator[Stage | Refusal]:
    """The model, and what each of several stacks of steps makes of it; the options are those of `Beside`."""
    beside = Beside(Made(model), task, **options)
    yield beside.stage("as it is", beside.first, ())
    for stack in stacks:
        made, name = beside.first, " + ".join(map(str, stack))
        try:
            for step in stack:
                made = beside.step(made, step)
            yield beside.stage(name, made, stack)
        except EveryformerError as error:
            yield Refusal(name, str(error))


def _reducing(new: Spec[Any]) -> Callable[[nn.Module], nn.Module]:
    """A reduction at each quarter of the depth; tokens are given back where the head answers for each."""
    return lambda model: reduced(model, new, restore=unreduced(model))


def _read(value: str) -> Any:
    """A number, a word, true or false, as YAML has them; a pattern of paths, which is none of these, as it is."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
