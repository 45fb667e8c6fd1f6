"""Several designs on the same data with the same budget."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn

from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.objectives.base import LABELS
from everyformer.recipe import Recipe, Training
from everyformer.registry import find_system, systems
from everyformer.specs import takes
from everyformer.training.checks import check
from everyformer.training.designing import design_for
from everyformer.training.files import write_json
from everyformer.training.loop import train
from everyformer.training.memory import give_back
from everyformer.training.progress import Display, read
from everyformer.training.run import METRICS, Run
from everyformer.training.starting import completed

if TYPE_CHECKING:
    from everyformer.data import Task

BATCH = 64
"""Samples at once when throughput is measured."""
MEASURED, PATIENCE = 0.5, 10.0
"""Seconds that each speed is measured for, and after which few passes of a slow model are enough."""


def compare(
    recipe: Recipe,
    folder: str | Path,
    designs: Iterable[str] | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    task: Task | None = None,
) -> list[dict[str, Any]]:
    """Train several designs on one task, opened once, and measure them; one that is trained already is not again.

    `designs` are names from the recipe's `compare.designs`, or systems, which take the options of the recipe's design
    that they know. A result is what a run's result.json holds with `name`, `latency_ms` (one sample, forward),
    `throughput` (samples a second in batches of 64), `curve`, and `figures`, the metrics that are shown, the first of which
    ranks: `compare.figures`, or the one that counts; `system`, and `trained_on`, how many samples. All of them are written to compare.json.
    """
    folder = Path(folder)
    recipes = variants(recipe, designs)
    for each in recipes.values():
        check(each)
    if not overwrite:
        _check_same(folder, recipes)
    tasks = _tasks(recipes, task)
    _check_fit(recipes, tasks)
    display = Display(recipe.name, progress)
    runs = {}
    for name, each in recipes.items():
        display.say(f"\n{name}")
        place = folder / name
        give_back()
        runs[name] = train(each, place, resume=not overwrite, overwrite=overwrite, progress=progress, task=tasks[name])
    return measured(runs, folder / "compare.json", tasks, recipe.compare.get("figures"))


def measured(
    runs: Mapping[str, Run],
    file: Path,
    tasks: Mapping[str, Task] | None = None,
    figures: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The results of runs with their speeds and learning curves, written to a file; all scored on the same samples.

    Without `tasks`, that of each run is opened again, one for all runs on the same data. `figures` are the metrics that are
    shown; `better` is which way the first of them is.
    """
    if len({run.result["hash"] for run in runs.values()}) > 1:
        raise EveryformerError(
            f"the runs in '{file.parent}' were scored on different samples; train them again (--overwrite), or compare "
            "settings that leave the test part as it is"
        )
    tasks = tasks or _tasks({name: run.recipe for name, run in runs.items()})
    results = [_result(name, run, tasks[name], figures) for name, run in runs.items()]
    write_json(file, results)
    return results


def _tasks(recipes: Mapping[str, Recipe], task: Task | None = None) -> dict[str, Task]:
    """The task of each recipe, one for all that have the same data; `task`, where it is given, for all of them."""
    opened: dict[str, Task] = {}
    found = {}
    for name, recipe in recipes.items():
        data = json.dumps(recipe.data, sort_keys=True)
        found[name] = opened[data] = task or opened.get(data) or _opened(recipe)
    return found


def _opened(recipe: Recipe) -> Task:
    from everyformer.data import find_task

    return find_task(recipe.task).open(**completed(recipe).data)


def variants(recipe: Recipe, designs: Iterable[str] | None = None) -> dict[str, Recipe]:
    """The recipe of each design, by name.

    A variant writes what differs in `design`, and under `training` and `data` what differs there; an `objective` stands in the
    place of the recipe's. One of another system keeps the options of the recipe's design that its system takes.
    """
    written: Mapping[str, Any] = recipe.compare.get("designs", {})
    for key in recipe.compare:
        if key not in ("designs", "figures"):
            raise UnknownName("key of compare", key, ["designs", "figures"])
    chosen = list(written) if designs is None else list(designs)
    if not chosen:
        raise EveryformerError(
            f"recipe '{recipe.name}' names no designs to compare; give some (--designs vit,cct) or write compare.designs"
        )
    made = {}
    for name in chosen:
        if name not in written and name not in systems():
            raise UnknownName("design", name, [*written, *systems()])
        made[name] = _variant(recipe, name, written.get(name, {"system": name}))
    return made


def _variant(recipe: Recipe, name: str, differs: Mapping[str, Any]) -> Recipe:
    changes = dict(differs)
    training, data = changes.pop("training", {}), changes.pop("data", {})
    objective = changes.pop("objective", recipe.objective)
    known = [f.name for f in dataclasses.fields(Training)]
    for key in training:
        if key not in known:
            raise UnknownName(f"key of compare.designs.{name}.training", key, known)
    base = dict(recipe.design)
    system = changes.get("system", base.get("system"))
    if system != base.get("system"):
        make = find_system(system).make
        base = {option: value for option, value in base.items() if takes(make, option, value)}
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}: {name}",
        data={**recipe.data, **data},
        design={**base, **changes},
        objective=objective,
        training=dataclasses.replace(recipe.training, **training),
        compare={},
    )


def _check_same(folder: Path, recipes: Mapping[str, Recipe]) -> None:
    """Refuse to mix runs of this recipe with those of another one."""
    for name, recipe in recipes.items():
        kept = folder / name / "recipe.yaml"
        if kept.is_file() and yaml.safe_load(kept.read_text()) != yaml.safe_load(yaml.safe_dump(recipe.to_plain())):
            raise EveryformerError(
                f"'{folder / name}' was trained by another recipe; give another folder (--out), or train again "
                "(--overwrite)"
            )


def _check_fit(recipes: Mapping[str, Recipe], tasks: Mapping[str, Task]) -> None:
    """Build every design without weights, so that one that does not fit stops the comparison before it begins."""
    for name, recipe in recipes.items():
        try:
            design_for(recipe.design, tasks[name].facts).build(device="meta")
        except DoesNotFit as error:
            raise DoesNotFit(f"design '{name}': {error.message}", error.path) from None


def _result(name: str, run: Run, task: Task, figures: Sequence[str] | None) -> dict[str, Any]:
    figures = [run.result["metric"]] if figures is None else list(figures)
    for figure in figures:
        if figure not in run.result["metrics"]:
            raise UnknownName("figure (compare.figures)", figure, run.result["metrics"])
    shown = [
        {"right": kind == "right", **_with_picture(example)}
        for kind, examples in run.result["examples"].items()
        for example in examples
    ]
    return {
        **run.result,
        "name": name,
        "system": run.recipe.design.get("system", name),
        "trained_on": task.size("train"),
        "figures": figures,
        "better": task.direction(figures[0]),
        "examples": shown,
        **speed(run.model, task),
        "curve": curve(run),
    }


def _with_picture(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example with a picture's data under `image`."""
    if not str(example.get("input")).startswith("data:image/"):
        return dict(example)
    return {"image": example["input"], **{key: value for key, value in example.items() if key != "input"}}


def curve(run: Run) -> list[dict[str, float]]:
    """The learning curve: seconds with the training loss, or with the watched figure on the validation part."""
    points = []
    for line in read(run.folder / METRICS):
        figures = line["valid"] if "valid" in line else {"loss": line["loss"]}
        names = [name for name in figures if "valid" not in line or name != "loss"]
        points.append({"step": line["step"], "seconds": line["seconds"], **{name: figures[name] for name in names}})
    return points


def speed(model: nn.Module, task: Task) -> dict[str, float]:
    """Milliseconds for one sample, and samples a second in batches; forward passes on the processor or GPU."""
    split = "test" if task.size("test") else "train"
    model.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    single = _seconds(model, _inputs(task, split, 1, device))
    count = min(BATCH, task.size(split))
    many = _seconds(model, _inputs(task, split, count, device))
    return {"latency_ms": 1000 * single, "throughput": count / many}


def _inputs(task: Task, split: str, count: int, device: str) -> dict[str, Tensor]:
    batch = task.batch(split, range(count))
    return {name: value.to(device) for name, value in batch.items() if name != LABELS}


@torch.no_grad()
def _seconds(model: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """The median time of a forward pass, after three that warm up; after one where eight would take too long."""
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < 2 or (len(took) < 8 and sum(took) < PATIENCE) or time.perf_counter() - began < MEASURED:
        started = time.perf_counter()
        model(**inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - started)
    return statistics.median(took[3:] or took[1:])
