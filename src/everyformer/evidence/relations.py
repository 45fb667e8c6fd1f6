"""Evidence for designs that say what given things are to each other, on rendered rooms."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import logistic_regression, scored
from everyformer.recipe import load_recipe
from everyformer.training.compare import variants


@cache
def _figures(variant: str) -> dict[str, Any]:
    """What one of the designs of the recipe of pairs says of other rooms."""
    recipe = variants(load_recipe("pairs"))[variant]
    of = f"objective.of={recipe.objective['of']}"
    figures: dict[str, Any] = scored("pairs", "training.seconds=null", of, design=recipe.design)["metrics"]
    return figures


def _boxes() -> float:
    """The accuracy of logistic regression on the boxes of both things."""
    recipe = load_recipe("pairs")
    task = find_task(recipe.task).open(**recipe.data)
    batches = {split: task.batch(split, range(task.size(split))) for split in ("train", "valid", "test")}
    inputs: dict[str, np.ndarray] = {split: each["boxes"].flatten(1).numpy() for split, each in batches.items()}
    return logistic_regression(inputs, {split: each["labels"].numpy() for split, each in batches.items()})


@evidence(
    "veto", kind="learns", claim="It tells the relations of things better than logistic regression on their boxes."
)
def veto_learns() -> Finding:
    """One head for all relations; the share of pairs that are told rightly."""
    ours, baseline = _figures("one-head")["accuracy"], _boxes()
    return Finding(verdict(ours > baseline), f"{ours:.4f} against {baseline:.4f}", {"ours": ours, "boxes": baseline})


@evidence("veto", kind="claim", claim="Experts for relations of like frequency raise the mean recall (abstract).")
def veto_experts() -> Finding:
    """Three experts, or one map to all relations by cross entropy."""
    figures = {"experts": _figures("veto"), "one head": _figures("one-head")}
    shown = "; ".join(
        f"{name}: mean recall {each['mean_recall']:.3f}, of all {each['accuracy']:.3f}"
        for name, each in figures.items()
    )
    return Finding(
        verdict(figures["experts"]["mean_recall"] > figures["one head"]["mean_recall"]), shown, dict(figures)
    )
