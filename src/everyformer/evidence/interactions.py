"""Evidence for designs that find things and what they are to each other at once, on rendered rooms."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from everyformer.data import find_task
from everyformer.data.builtin import scenes
from everyformer.data.task import used
from everyformer.data.tasks.objects import NOTHING, agreement, means
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained


@cache
def _figures(guidance: float) -> dict[str, Any]:
    """What a run of the recipe of relations says of other rooms, with that much of the names of things, and what its groups have
    in common with their things.
    """
    with trained("relations", f"objective.guidance={guidance}", "training.seconds=null") as run:
        task = find_task(run.recipe.task).open(**run.recipe.data)
        inputs = task.batch("test", range(task.size("test")))["inputs"]
        overlap = _overlap(run.model, inputs)
        return {**run.result["metrics"], "overlap": overlap, "commonest": run.result["baseline"]["recall@10"]}


def _overlap(model: nn.Module, inputs: torch.Tensor) -> float:
    """The overlap of each thing of the rooms with a group of the model's."""
    things = torch.from_numpy(np.stack(scenes()["test"].column("things"))).long() + NOTHING
    groups = []
    with used(model):
        for each in inputs.split(16):
            tokens = model.features(each)  # type: ignore[operator]
            groups.append(tokens.origin.unflatten(1, tokens.source.grid).float())
    maps = F.interpolate(torch.cat(groups)[:, None], things.shape[1:])[:, 0].long()
    return means([agreement(*each) for each in zip(maps, things, strict=True)])["mbo"]


@evidence(
    "agglomerative-transformer", kind="learns", claim="It says more of a room's relations than the commonest would be."
)
def agglomerative_learns() -> Finding:
    """The recipe of relations: ten triples a room, boxes at an IoU of a half."""
    ours = _figures(1.0)
    finding = f"{ours['recall@10']:.4f} of all triples against {ours['commonest']:.4f}"
    return Finding(verdict(ours["recall@10"] > ours["commonest"]), finding, ours)


@evidence(
    "agglomerative-transformer",
    kind="claim",
    claim="Guided by the names of things, a group has more of a whole thing (abstract).",
)
def agglomerative_guidance() -> Finding:
    """The groups of both stages on things of other rooms, with the names of things in the loss and without."""
    figures = {"guided": _figures(1.0), "unguided": _figures(0.0)}
    shown = "; ".join(
        f"{name}: overlap {each['overlap']:.3f}, recall {each['recall@10']:.4f}" for name, each in figures.items()
    )
    return Finding(verdict(figures["guided"]["overlap"] > figures["unguided"]["overlap"]), shown, dict(figures))
