"""A resumed run is the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from everyformer.training import Run, train
from everyformer.training.lesson import Lesson

from .fakes import Sums, recipe


class Stop(Exception):
    pass


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, given: object, folder: Path) -> None:
    """A run that dies after step `at`, whatever it has saved until then."""
    whole = Lesson.step

    def step(self: Lesson, *given: object) -> object:
        if self.state.step == at:
            raise Stop
        return whole(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Lesson, "step", step)
        with pytest.raises(Stop):
            train(given, folder, task=Sums(), progress=False, resume=True)


def same(first: Run, second: Run) -> None:
    one, two = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    for a, b in zip(*(map(json.loads, (r.folder / "metrics.jsonl").read_text().splitlines()) for r in (first, second))):
        timed = ("seconds", "samples_per_second", "tokens_per_second")
        assert {k: v for k, v in a.items() if k not in timed} == {k: v for k, v in b.items() if k not in timed}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep": "last", "ema": 0.9},
        {"keep": "last", "average": 2, "evaluate_every": 2},
        {"tokens": 30, "accumulate": 3, "optimizer": "muon", "patience": 3, "evaluate_every": 2},
        {"workers": 1, "epochs": 1.5, "steps": None},
    ],
    ids=["best", "ema", "average", "muon", "workers"],
)
def test_a_resumed_run_is_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]) -> None:
    given = recipe(**options)
    whole = train(given, tmp_path / "whole", task=Sums(), progress=False)
    for at in (1, 5, 9):
        interrupted(monkeypatch, at, given, tmp_path / "broken") if at < whole.result["steps"] else None
    same(whole, train(given, tmp_path / "broken", task=Sums(), progress=False, resume=True))
