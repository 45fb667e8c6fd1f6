"""The figures of a run in TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from everyformer.errors import EveryformerError, UnknownName
from everyformer.training import train
from everyformer.training.checks import check

from .fakes import Sums, recipe
from .test_resume import interrupted


def kept(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What metrics.jsonl and result.json say, by name."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name in ("loss", "lr"):
            if name in line:
                found.setdefault(name, []).append((line["step"], line[name]))
        if "valid" in line:
            found.setdefault("valid/accuracy", []).append((line["step"], line["valid"]["accuracy"]))
    result = json.loads((folder / "result.json").read_text())
    return found | {"test/accuracy": [(result["steps"], result["metrics"]["accuracy"])]}


def test_tensorboard_has_every_figure_once_also_of_a_run_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = recipe()
    interrupted(monkeypatch, 5, given, tmp_path / "run")
    train(given, tmp_path / "run", task=Sums(), progress=False, resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    for name, values in kept(tmp_path / "run").items():
        assert [each.step for each in events.Scalars(name)] == [step for step, _ in values], name
        assert [each.value for each in events.Scalars(name)] == pytest.approx([value for _, value in values], rel=1e-6)
    train(recipe(steps=3, logging=[]), tmp_path / "run", task=Sums(), progress=False, overwrite=True)
    assert not (tmp_path / "run" / "tensorboard").exists()


class Service:
    """MLflow's client and wandb's run, as far as they are used: what was said is kept by the id of the run."""

    runs: dict[str, dict[str, Any]]

    def __init__(self) -> None:
        self.runs = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.runs["a"] = {"of": experiment, "name": run_name, "params": {}, "figures": {}, "status": []}
        return SimpleNamespace(info=SimpleNamespace(run_id="a"))

    def update_run(self, id: str, status: str) -> None:
        self.runs[id]["status"].append(status)

    def log_param(self, id: str, key: str, value: Any) -> None:
        self.runs[id]["params"][key] = value

    def log_metric(self, id: str, name: str, value: float, step: int) -> None:
        self.runs[id]["figures"].setdefault(name, {})[step] = value

    set_terminated = update_run

    def init(self, project: str, name: str, dir: str, config: Any, id: str | None, resume: str) -> Any:
        if id is None:
            self.create_run(project, name)
            self.runs["a"]["params"] = dict(config["training"])
        else:
            self.update_run(id, "RUNNING")
        return self

    id = "a"

    def log(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self.log_metric("a", name, value, step)

    def finish(self, exit_code: int) -> None:
        self.update_run("a", "FAILED" if exit_code else "FINISHED")


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_service_has_one_run_which_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    service, module = Service(), ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, None)
    module.MlflowClient, module.init = lambda: service, service.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    given = recipe(logging=[name])
    interrupted(monkeypatch, 5, given, tmp_path / "run")
    train(given, tmp_path / "run", task=Sums(), progress=False, resume=True)
    (run,) = service.runs.values()
    assert (run["of"], run["name"]) == ("sums", "run")
    assert run["params"]["training.lr" if name == "mlflow" else "lr"] == 3e-3
    assert run["status"] == ["FAILED", "RUNNING", "FINISHED"]
    for figure, values in kept(tmp_path / "run").items():
        assert run["figures"][figure] == dict(values)
    assert not (tmp_path / "run" / "tensorboard").exists(), "only what is asked for"


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everyformer.training.logs.find_spec", lambda name: None)
    with pytest.raises(EveryformerError, match="names 'wandb', and that package is not installed; pip install wandb"):
        check(recipe(logging=["wandb"]))
    with pytest.raises(
        UnknownName, match=r"unknown log \(training\.logging\) 'tensorbord'; did you mean 'tensorboard'"
    ):
        check(recipe(logging=["tensorbord"]))
    check(recipe())
