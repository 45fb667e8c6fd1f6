"""A run: the folder that training leaves, and what can be done with it."""

from __future__ import annotations

import copy
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.designs import Design, design_of
from everyformer.errors import BadInput, EveryformerError
from everyformer.models.mixed import by_size
from everyformer.recipe import Recipe, from_plain
from everyformer.training import logs
from everyformer.training.averaging import weights
from everyformer.training.files import delete_folder, save_tensors, write_json, write_text
from everyformer.training.precision import choose, use

if TYPE_CHECKING:
    from everyformer.data import Score, Task

WEIGHTS, RESULT, METRICS = "model.safetensors", "result.json", "metrics.jsonl"
_OWN_FILES = (RESULT, WEIGHTS, METRICS, "recipe.yaml", "design.yaml")
_OWN_FOLDERS = ("checkpoints", "task", logs.FOLDER)
_AT_ONCE = 64


@dataclass
class Run:
    """A finished run: `model` with its trained weights, `task` with every transform, `recipe`, `design`, `result`."""

    folder: Path
    recipe: Recipe
    design: Design
    result: dict[str, Any]
    precision: str = "fp32"

    @classmethod
    def open(cls, folder: str | Path, *, precision: str = "fp32") -> Run:
        """The run in a folder, to be used in 'fp32', in 'bf16', or ('auto') in what this machine is faster at."""
        folder = Path(folder)
        choose(precision)
        if not (folder / "recipe.yaml").is_file():
            raise EveryformerError(f"no run in '{folder}'; give the folder that `everyformer train` wrote")
        if not (folder / RESULT).is_file():
            raise EveryformerError(f"the run in '{folder}' has not ended; go on with resume (--resume)")
        return cls(
            folder,
            from_plain(yaml.safe_load((folder / "recipe.yaml").read_text())),
            Design.from_yaml((folder / "design.yaml").read_text()),
            json.loads((folder / RESULT).read_text()),
            precision,
        )

    @cached_property
    def model(self) -> nn.Module:
        """The trained model, ready for use."""
        model: nn.Module = self.design.build(seed=0)
        load_weights(model, self.folder / WEIGHTS)
        return use(model.eval(), self.precision)

    @cached_property
    def task(self) -> Task:
        """What the run learnt, with its transforms and without data."""
        from everyformer.data import load_task

        return load_task(self.folder / "task")

    @property
    def reads(self) -> dict[str, Any]:
        """What data must be brought to for its model: mean and deviation of pictures."""
        return {name: self.task.state[name] for name in ("mean", "std") if name in self.task.state}

    def predict(self, inputs: Any, *, decoding: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """An answer to each raw input; `decoding` changes single options of the recipe's."""
        from everyformer.data.decoding import changed

        return self.task.predict(self.model, inputs, decoding=changed(self.recipe.decoding, decoding or {}))

    def evaluate(self, split: str = "test", *, batch: int = 256) -> Score:
        """The score on 'train', 'valid' or 'test', read again from where the recipe says."""
        from everyformer.data import find_task

        task = find_task(self.recipe.task).open(**self.recipe.data)
        return task.evaluate(self.model, split, batch=batch, decoding=dict(self.recipe.decoding))

    @torch.no_grad()
    def embed(self, inputs: Sequence[Any]) -> Float[Tensor, "B D"]:
        """A vector for each raw input: the mean of its tokens before the head."""
        prepare, features = getattr(self.task, "prepare", None), getattr(self.model, "features", None)
        if prepare is None or features is None:
            raise EveryformerError(
                f"a run of {self.task.name} has no vector for an input; runs that classify whole inputs do"
            )

        def vector(inputs: Tensor, **fields: Tensor) -> Tensor:
            tokens = features(inputs, **fields)
            real = torch.ones_like(tokens.values[..., :1]) if tokens.mask is None else tokens.mask[..., None]
            return (tokens.values.float() * real).sum(1) / real.sum(1)

        vectors = []
        for start in range(0, len(inputs), _AT_ONCE):
            batch = prepare(list(inputs[start : start + _AT_ONCE]))
            vectors.append(by_size(vector, **batch) if "sizes" in batch else vector(**batch))
        return torch.cat(vectors)


@torch.no_grad()
def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights of a safetensors file into a model, one at a time; every name and shape must agree."""
    from safetensors import safe_open

    own: dict[str, Tensor] = weights(model)
    with safe_open(path, "pt") as held:
        found = {name: tuple(held.get_slice(name).get_shape()) for name in held.keys()}  # noqa: SIM118
        expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
        faults = [f"missing: {name}" for name in expected if name not in found]
        faults += [f"unexpected: {name}" for name in found if name not in expected]
        faults += [
            f"{name} has {found[name]} and needs {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ]
        if faults:
            more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
            raise EveryformerError(f"'{path}' does not fit the design: {'; '.join(faults[:8])}{more}")
        for name, tensor in own.items():
            tensor.copy_(held.get_tensor(name))


def refuse(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder where a run stands already, unless it is resumed or overwritten."""
    if folder.exists() and not folder.is_dir():
        raise EveryformerError(f"'{folder}' is a file; give a folder for the run")
    if (folder / "recipe.yaml").is_file() and not resume and not overwrite:
        ended = (folder / RESULT).is_file()
        state = "a finished run" if ended else "an unfinished run"
        todo = "" if ended else " go on with it (resume, --resume),"
        raise EveryformerError(
            f"'{folder}' holds {state};{todo} give another folder (--out), or replace it (overwrite, --overwrite)"
        )


def prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make room for a run; one that is there already is kept unless it is resumed or overwritten."""
    refuse(folder, resume=resume, overwrite=overwrite)
    if overwrite and not resume:
        for name in _OWN_FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _OWN_FOLDERS:
            delete_folder(folder / name)
    folder.mkdir(parents=True, exist_ok=True)


def save_beginning(folder: Path, recipe: Recipe, design: Design, task: Task) -> None:
    """Write what a run is: its recipe, design and transforms."""
    fresh = folder / ".new-task"
    shutil.rmtree(fresh, ignore_errors=True)
    task.save(fresh)
    delete_folder(folder / "task")
    fresh.rename(folder / "task")
    write_text(folder / "design.yaml", design.to_yaml())
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.to_plain(), sort_keys=False, width=120))


def save_whole(folder: Path, recipe: Recipe, task: Task, model: nn.Module, result: Mapping[str, Any]) -> Run:
    """Write a run that is finished: what it is, its weights, and what is said of it; a folder that is there is refused."""
    if folder.exists():
        raise BadInput(f"'{folder}' exists; give another folder (--out)")
    folder.mkdir(parents=True)
    save_beginning(folder, recipe, design_of(model), task)
    save_tensors(folder / WEIGHTS, weights(copy.deepcopy(model).to(torch.device("cpu"))))
    write_json(folder / RESULT, dict(result))
    return Run.open(folder)


def versions() -> dict[str, str]:
    """What a run was made with."""
    from everyformer import __version__

    return {"everyformer": __version__, "torch": torch.__version__, "python": platform.python_version()}


def teacher_for(task: Task, folder: str) -> nn.Module:
    """The model of a run that answers what `task` asks, to distil from."""
    run = Run.open(folder)
    theirs, ours = (t.state.get("classes") for t in (run.task, task))
    if run.task.name != task.name or theirs != ours:
        raise EveryformerError(
            f"objective.teacher='{folder}' answers {run.task.name} with the classes {theirs}; "
            f"this run learns {task.name} with {ours}; give a run on the same data"
        )
    return run.model
