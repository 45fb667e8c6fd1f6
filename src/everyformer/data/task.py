"""What every task is: data into batches, a model's answers into figures, raw input into answers."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import io
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from everyformer.data.options import read_options
from everyformer.data.sources import SPLITS, Where
from everyformer.errors import BadInput, EveryformerError, UnknownName
from everyformer.objectives.base import answer
from everyformer.specs import Spec

FILE = "task.json"
SHOWN = 12
"""How many examples right and how many wrong a score keeps."""


@dataclass
class Score:
    """How well a model does on one part of the data."""

    metrics: dict[str, float]
    samples: int
    """How many samples were scored: all of them."""
    hash: str
    """SHA-256 over the samples scored, in order: equal hashes, equal test."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Some samples answered 'right' and some 'wrong', ready for JSON; pictures are data URIs."""

    def to_plain(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return dataclasses.asdict(self)


class Task:
    """Base of tasks. `state` holds what was fitted on the training part and what a run keeps, as plain data."""

    name: ClassVar[str] = ""
    metric: ClassVar[str] = ""
    """The figure that counts."""
    better: ClassVar[str] = "max"
    watched: ClassVar[tuple[str, str]] = ("", "")
    """The figure that is watched while training and which way is better, where `metric` takes too long to find."""
    generates: ClassVar[bool] = False
    """Whether the answers are texts that a model writes token by token."""
    Options: ClassVar[type[Where]] = Where
    lanes: int | None = None
    """How many lanes the training part is read in, forward and without end; None where every sample is at hand."""

    def __init__(self, options: Any, state: dict[str, Any]) -> None:
        self.options, self.state = options, state
        self.facts: dict[str, Any] = state.get("facts", {})

    @classmethod
    def direction(cls, figure: str) -> str:
        """Which way a figure of `evaluate` is better, 'max' or 'min'; as the one that counts, unless a task says otherwise."""
        return cls.better

    def __init_subclass__(cls) -> None:
        if cls.metric and not cls.watched[0]:
            cls.watched = (cls.metric, cls.better)

    @classmethod
    def open(cls, **data: Any) -> Self:
        """Read the data and fit the transforms on its training part; the keywords are the recipe's `data` section."""
        return cls.read(read_options(cls.Options, data))

    @classmethod
    def read(cls, options: Any) -> Self:
        """The task of checked options."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The transforms that `save` wrote, without data."""
        state = read_state(Path(folder))
        return cls(read_options(cls.Options, state.pop("options")), state)

    def save(self, folder: str | Path) -> None:
        """Write every transform into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"name": self.name, "options": dataclasses.asdict(self.options), **self.state}
        write(folder / FILE, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")

    def size(self, split: str) -> int:
        """How many samples a part has; 0 where there is no such part."""
        raise NotImplementedError

    def costs(self, split: str) -> list[int] | None:
        """The tokens of each sample, for batches by token budget; None where all are equal."""
        return None

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """The samples of these indices as tensors: a pure function of the arguments."""
        raise NotImplementedError

    def objective(self, **options: Any) -> Spec[Any]:
        """What is minimised in training."""
        raise NotImplementedError

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Figures over all samples of a part, the same for any `batch`. Without `decoding` no text is generated."""
        raise NotImplementedError

    def settle(self, model: nn.Module) -> bool:
        """Keep in `state` what only a trained model can tell, found without the test part; whether there is any.

        Called once, when training ends.
        """
        return False

    def baseline(self, split: str) -> dict[str, Any] | None:
        """The `metric` of an answer that looks at no input, with its `name`; None where there is no such answer."""
        return None

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Raw inputs into answers."""
        raise NotImplementedError

    def processor(self) -> dict[str, Any] | None:
        """What preprocessor_config.json says in transformers of how raw input is read; None where it cannot say it."""
        return None

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """Write the answers to raw inputs as files into `folder`, where they are pictures; gives the names."""
        raise EveryformerError(f"the answers of {self.name} are no files; print them, with --json for a program")

    def describe(self) -> str:
        """What the task is and how much data it has, in a line."""
        sizes = ", ".join(f"{self.size(s):,} {s}" for s in SPLITS if self.size(s))
        facts = ", ".join(f"{k} {v}" for k, v in self.facts.items() if isinstance(v, (int, str)))
        return f"{self.name}: {sizes or 'no data'}; {facts}"

    def answers(self, model: nn.Module, split: str, batch: int) -> Iterator[tuple[list[int], dict[str, Tensor], Any]]:
        """The model's answers to all samples of a part: indices, batch and answer, on the CPU."""
        count = self.size(split)
        if not count:
            raise EveryformerError(f"there is nothing in the part '{split}' to score; open the task with data for it")
        with used(model) as device:
            for start in range(0, count, batch):
                indices = list(range(start, min(start + batch, count)))
                tensors = self.batch(split, indices)
                given = answer(model, {k: v.to(device) for k, v in tensors.items()})
                yield indices, tensors, given.float().cpu()


@contextmanager
def used(model: nn.Module) -> Iterator[torch.device]:
    """The model in use, not in training: no dropout, no gradients; gives the device where it stands."""
    was = model.training
    model.eval()
    first = next(model.parameters(), None)
    try:
        with torch.no_grad():
            yield torch.device("cpu") if first is None else first.device
    finally:
        model.train(was)


def affordable(batch: int, values: int) -> int:
    """As many samples, at most `batch`, as keep answers of `values` numbers each below 128 MB."""
    return max(1, min(batch, 2**25 // values))


_tasks: dict[str, type[Task]] = {}
T = TypeVar("T", bound=type[Task])


def task(cls: T) -> T:
    """Class decorator: the task can be named in a recipe."""
    _tasks[cls.name] = cls
    return cls


def known_tasks() -> dict[str, type[Task]]:
    """The tasks by name."""
    package = importlib.import_module("everyformer.data.tasks")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"everyformer.data.tasks.{found.name}")
    return dict(sorted(_tasks.items()))


def find_task(name: str) -> type[Task]:
    """The task of that name."""
    known = known_tasks()
    if name not in known:
        raise UnknownName("task", name, known)
    return known[name]


class Digest:
    """SHA-256 over samples, one by one."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *values: bytes | str | Tensor | np.ndarray | int) -> None:
        """Count a sample in: its raw values."""
        for value in values:
            if isinstance(value, (Tensor, np.ndarray)):
                value = np.ascontiguousarray(value).tobytes()
            raw = value if isinstance(value, bytes) else str(value).encode()
            self._hash.update(len(raw).to_bytes(8, "little") + raw)

    def __str__(self) -> str:
        return self._hash.hexdigest()


class Examples:
    """The first few samples answered right and the first few answered wrong."""

    def __init__(self) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {"right": [], "wrong": []}

    def wants(self, right: bool) -> bool:
        """Whether another one is wanted."""
        return len(self.kept["right" if right else "wrong"]) < SHOWN

    def add(self, right: bool, **shown: Any) -> None:
        """Keep one."""
        self.kept["right" if right else "wrong"].append(shown)


def data_uri(picture: np.ndarray) -> str:
    """A uint8 picture (C, Y, X) as a PNG that a page can show by itself."""
    from PIL import Image

    rows = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def read_state(folder: Path) -> dict[str, Any]:
    """What `Task.save` wrote."""
    path = folder / FILE
    if not path.is_file():
        raise EveryformerError(f"no task in '{folder}': '{FILE}' is missing; give the 'task' folder of a run")
    state: dict[str, Any] = json.loads(path.read_text())
    return state


def write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text)
    os.replace(beside, path)


def indices_of(indices: Sequence[int] | Tensor, size: int, split: str) -> list[int]:
    """Plain indices, each inside the part."""
    plain = indices.tolist() if isinstance(indices, Tensor) else [int(i) for i in indices]
    for index in plain:
        if not 0 <= index < size:
            raise BadInput(f"sample {index} of '{split}', which has {size} samples (0 to {size - 1})")
    return plain
