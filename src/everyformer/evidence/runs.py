"""What experiments share: short runs of recipes, and plain baselines on the same samples."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean, stdev
from typing import Any

import numpy as np

from everyformer.recipe import load_recipe
from everyformer.training import Run, train


@contextmanager
def trained(recipe: str, *overrides: str, design: dict[str, Any] | None = None) -> Iterator[Run]:
    """A run of a recipe, of another design where one is given, in a folder that is gone afterwards."""
    loaded = load_recipe(recipe, overrides)
    if design is not None:
        loaded = dataclasses.replace(loaded, design=design)
    with tempfile.TemporaryDirectory() as folder:
        yield train(loaded, folder, overwrite=True, progress=False)


def scored(recipe: str, *overrides: str, design: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a run of a recipe, of another design where one is given."""
    with trained(recipe, *overrides, design=design) as run:
        return run.result


def over_seeds(recipe: str, *overrides: str, seeds: int, design: dict[str, Any] | None = None) -> dict[str, Any]:
    """The figure that counts over several seeds, of another design where one is given: each, mean and deviation."""
    results = [scored(recipe, *overrides, f"training.seed={seed}", design=design) for seed in range(seeds)]
    figures = [r["metrics"][r["metric"]] for r in results]
    return {
        "each": figures, "mean": mean(figures), "deviation": stdev(figures) if seeds > 1 else 0.0,
        "parameters": results[0]["parameters"], "seconds": sum(r["training_seconds"] for r in results),
    }  # fmt: skip


def logistic_regression(inputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """Test accuracy of logistic regression on raw inputs, its strength chosen on the validation part."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(inputs["train"], labels["train"])
        for strength in (0.001, 0.01, 0.1, 1.0)
    ]  # fmt: skip
    best = max(fitted, key=lambda model: model.score(inputs["valid"], labels["valid"]))
    return float(best.score(inputs["test"], labels["test"]))


def arrays(task: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs, one row a sample, and labels of every part of a task, without augmentation."""
    inputs, labels = {}, {}
    for split in ("train", "valid", "test"):
        batch = task.batch(split, list(range(task.size(split))))
        inputs[split] = batch["inputs"].flatten(1).numpy()
        labels[split] = batch["labels"].numpy()
    return inputs, labels
