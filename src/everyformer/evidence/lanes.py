"""Evidence for lanes that are written as sequences, on rendered roads."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from everyformer.data import find_task
from everyformer.data.tasks.roads import LaneDetection, lanes_of
from everyformer.data.written_lanes import FORMATS, reward
from everyformer.evidence.descent import learn
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained
from everyformer.objectives import PolicyGradient

_STEPS, _BATCH = 60, 32
_OVERRIDES = (f"data.formats=[{','.join(FORMATS)}]", "training.seconds=null")


@cache
def _first() -> tuple[nn.Module, LaneDetection, dict[str, Any]]:
    """One model of all formats, trained to write what is there."""
    with trained("lanes", *_OVERRIDES) as run:
        task = find_task(run.recipe.task).open(**run.recipe.data)
        assert isinstance(task, LaneDetection)
        return run.model, task, run.result


@cache
def _tuned() -> dict[str, float]:
    """The scores of the same, tuned by what its own draws are worth, each less what another draw is worth."""
    first, task, _ = _first()
    model, random, words = copy.deepcopy(first), np.random.default_rng(1), task.writer
    torch.manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        form = task.formats[step % len(task.formats)]
        chosen = random.integers(task.size("train"), size=_BATCH).tolist()
        cells = task.batch("train", chosen)["inputs"]
        lanes = [lanes_of(each) for each in task.parts["train"][1][chosen]]
        drawn, other = (task.tokens(model, cells, form, {"strategy": "sample"}) for _ in range(2))
        worth = [[reward(words.read(form, a), b) for a, b in zip(each, lanes, strict=True)] for each in (drawn, other)]
        ended = [each if len(each) == task.longest else [*each, words.mark("end")] for each in drawn]
        gains = torch.tensor(worth[0]) - torch.tensor(worth[1])
        return {"inputs": cells, **task.taught([form] * _BATCH, ended), "gains": gains}

    learn(model, PolicyGradient(), batch, _STEPS, lr=1e-4, clip=1.0)
    return task.evaluate(model, "test", decoding={}).metrics


def _formats(metrics: dict[str, float]) -> dict[str, float]:
    """The F1 of each format on roads that the model has not seen."""
    return {name: metrics[f"f1_{name}"] for name in FORMATS}


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items())


@evidence("lane2seq", kind="learns", claim="One model finds lanes in each of three formats, far above the mean road.")
def lane2seq_learns() -> Finding:
    """The recipe of lanes in all formats; the prompt alone says which."""
    result = _first()[2]
    scores, baseline = _formats(result["metrics"]), result["baseline"]["f1"]
    holds = min(scores.values()) > 1.5 * baseline
    finding = f"F1 {_shown(scores)}; the mean road {baseline:.3f}"
    return Finding(verdict(holds), finding, {**scores, "mean road": baseline})


@evidence("lane2seq", kind="claim", claim="Tuning with rewards raises the F1 of every format (section 3).")
def lane2seq_tuned() -> Finding:
    """Some steps more, by what draws are worth."""
    before, after = _formats(_first()[2]["metrics"]), _formats(_tuned())
    holds = all(after[name] > before[name] for name in before)
    return Finding(verdict(holds), f"F1 {_shown(before)}; tuned {_shown(after)}", {"before": before, "after": after})
