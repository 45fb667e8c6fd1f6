"""A run that learns from another run's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from everyformer.errors import EveryformerError
from everyformer.recipe import load_recipe
from everyformer.training import train

SHORT = ("training.epochs=null", "training.steps=4", "training.batch=8", "design.width=16", "design.depth=1")


def run(folder: Path, *overrides: str):
    return train(load_recipe("digits", [*SHORT, *overrides]), folder, progress=False)


def test_a_student_learns_from_a_run(tmp_path: Path) -> None:
    run(tmp_path / "teacher")
    alone = run(tmp_path / "alone", "training.seed=1")
    taught = run(tmp_path / "taught", "training.seed=1", f"objective.teacher={tmp_path / 'teacher'}")
    assert taught.result["steps"] == 4
    assert taught.result["parameters"] == alone.result["parameters"]
    assert taught.result["metrics"] != alone.result["metrics"]


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "teacher")
    (tmp_path / "teacher" / "task" / "task.json").write_text(
        (tmp_path / "teacher" / "task" / "task.json").read_text().replace('"9"', '"nine"')
    )
    with pytest.raises(EveryformerError, match=r"objective\.teacher.*classes"):
        run(tmp_path / "taught", f"objective.teacher={tmp_path / 'teacher'}")
