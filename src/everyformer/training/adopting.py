"""A checkpoint of others as a run, without training, so that what is done with runs can be done with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from everyformer.costs import parameters
from everyformer.data import Task, find_task
from everyformer.errors import DoesNotFit
from everyformer.recipe import Recipe
from everyformer.training.designing import design_for
from everyformer.training.run import Run, save_whole
from everyformer.training.starting import FROM, completed, places_of, source


def adopted(recipe: Recipe, folder: Path) -> tuple[Run, Task]:
    """The checkpoint that a recipe goes on from (`design.from`) as a run in `folder`, and the recipe's task with its data.

    Data that the checkpoint has no trained head for is refused: train it on them first.
    """
    path = str(recipe.design[FROM])
    held = source(path)
    recipe = _narrowed(completed(recipe), held)
    task = find_task(recipe.task).open(**recipe.data)
    design = design_for(recipe.design, task.facts)
    difference = design.diff(held.design)
    if difference != "no difference":
        raise DoesNotFit(
            f"'{path}' was not trained to answer this data; train it on them first (everyformer train ... "
            f"design.from={path}), which changes:\n{difference}"
        )
    said = {
        "name": recipe.name, "task": task.name, "system": design.name, "metric": task.metric, "better": task.better,
        "metrics": {}, "parameters": parameters(held.model), "adopted_from": path,
    }  # fmt: skip
    run = save_whole(folder, recipe, task, held.model, said)
    source.cache_clear()
    return run, task


def _narrowed(recipe: Recipe, held: Any) -> Recipe:
    """The recipe with the classes that a checkpoint knows, and with texts that it has places for."""
    options = {field.name: field.default for field in dataclasses.fields(find_task(recipe.task).Options)}
    given = {**options, **recipe.data}
    said: dict[str, Any] = {}
    if held.classes and "classes" in options and given["classes"] is None:
        said["classes"] = held.classes
    room = min(places_of(held.design), default=None)
    if room is not None and "length" in options and given["length"] > room:
        said["length"] = room
    return dataclasses.replace(recipe, data={**recipe.data, **said})
