"""What a run leaves, opens, refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from everyformer.errors import EveryformerError, UnknownName
from everyformer.training import Run, train
from everyformer.training.checks import check
from everyformer.training.files import save_tensors
from everyformer.training.run import load_weights

from .fakes import Sums, recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe(), tmp_path_factory.mktemp("run"), task=Sums(), progress=False)


def test_a_run_opens_as_it_ended(run: Run) -> None:
    opened = Run.open(run.folder)
    assert opened.recipe.to_plain() == recipe().to_plain()
    assert opened.design == run.design
    score = Sums().evaluate(opened.model, "test")
    assert score.metrics == run.result["metrics"]
    assert not opened.model.training


def test_a_run_is_used_in_bfloat16_where_it_is_asked(run: Run) -> None:
    half = Run.open(run.folder, precision="bf16")
    assert {each.dtype for each in half.model.parameters()} == {torch.bfloat16}
    scores = [Sums().evaluate(each.model, "test").metrics["loss"] for each in (Run.open(run.folder), half)]
    assert scores[1] == pytest.approx(scores[0], rel=0.02)
    with pytest.raises(UnknownName, match="unknown precision 'int3'"):
        Run.open(run.folder, precision="int3")


def test_the_result(run: Run) -> None:
    result = json.loads((run.folder / "result.json").read_text())
    assert (result["steps"], result["samples"], result["metric"], result["better"]) == (12, 16, "accuracy", "max")
    assert result["epochs"] == pytest.approx(12 * 8 / 53, abs=1e-3)
    assert result["precision"] == "fp32 (as asked)"
    assert result["parameters"] == sum(p.numel() for p in run.model.parameters())
    assert result["flops"] > 2 * result["parameters"]
    assert result["peak_memory"] > 2**26
    assert set(result["versions"]) == {"everyformer", "torch", "python"}


def test_metrics_are_lines_of_json_in_order(run: Run) -> None:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == list(range(1, 13))
    assert {"seconds", "lr", "samples_per_second", "tokens_per_second"} < set(losses[0])
    assert [line["step"] for line in lines if "valid" in line] == [2, 4, 6, 8, 10, 12]
    best = max(line["valid"]["accuracy"] for line in lines if "valid" in line)
    assert run.result["valid"] == {"accuracy": best}


def test_tied_weights_are_saved_once(run: Run) -> None:
    saved = load_file(run.folder / "model.safetensors")
    assert "embedding.table.weight" in saved
    assert "head.project.weight" not in saved
    assert run.model.head.project.weight is run.model.embedding.table.weight


def test_predict(run: Run) -> None:
    run.__dict__["task"] = Sums()
    (answer,) = run.predict([[1, 2, 3]])
    assert answer["answer"] == run.model(torch.tensor([[1, 2, 3]]))[0].argmax(-1).tolist()


def test_loading_names_what_does_not_fit(run: Run, tmp_path: Path) -> None:
    saved = load_file(run.folder / "model.safetensors")
    saved["extra"] = torch.zeros(2)
    saved["embedding.table.weight"] = torch.zeros(3, 3)
    del saved["backbone.norm.weight"]
    save_tensors(tmp_path / "x.safetensors", saved)
    with pytest.raises(EveryformerError) as told:
        load_weights(run.design.build(), tmp_path / "x.safetensors")
    for each in (
        "missing: backbone.norm.weight",
        "unexpected: extra",
        "embedding.table.weight has (3, 3) and needs (7, 16)",
    ):
        assert each in str(told.value)


def test_a_run_is_not_overwritten_unless_told(run: Run, tmp_path: Path) -> None:
    train(recipe(), tmp_path, task=Sums(), progress=False)
    before = (tmp_path / "result.json").read_text()
    with pytest.raises(EveryformerError, match="holds a finished run; give another folder"):
        train(recipe(), tmp_path, task=Sums(), progress=False)
    assert (tmp_path / "result.json").read_text() == before
    again = train(recipe(steps=3), tmp_path, task=Sums(), progress=False, overwrite=True)
    assert again.result["steps"] == 3
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == ["step-0000003"]


def test_resuming_a_finished_run_changes_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    train(recipe(), run.folder, task=Sums(), resume=True)
    assert "has ended already" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before


def test_an_unfinished_run_is_neither_opened_nor_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text((run.folder / "recipe.yaml").read_text())
    with pytest.raises(EveryformerError, match="has not ended; go on with resume"):
        Run.open(tmp_path)
    with pytest.raises(EveryformerError, match="holds an unfinished run; go on with it"):
        train(recipe(), tmp_path, task=Sums(), progress=False)
    with pytest.raises(EveryformerError, match="no run in"):
        Run.open(tmp_path / "nowhere")


def test_early_stop_keeps_the_best(tmp_path: Path) -> None:
    class Worse(Sums):
        figures = iter([0.1, 0.5, 0.4, 0.5, 0.2, 0.9])

        def evaluate(self, model: Any, split: str, **given: Any) -> Any:
            score = super().evaluate(model, split, **given)
            if split == "valid":
                score.metrics["accuracy"] = next(self.figures)
            return score

    ended = train(recipe(patience=3, evaluate_every=1), tmp_path, task=Worse(), progress=False)
    assert (ended.result["steps"], ended.result["best_step"], ended.result["valid"]) == (5, 2, {"accuracy": 0.5})
    short = train(recipe(steps=12, evaluate_every=1), tmp_path / "short", task=Sums(), progress=False)
    assert short.result["steps"] == 12


def test_a_run_by_the_clock_ends_on_time(tmp_path: Path) -> None:
    class Slow(Sums):
        def evaluate(self, *given: Any, **more: Any) -> Any:
            import time

            time.sleep(0.3)
            return super().evaluate(*given, **more)

    ended = train(recipe(steps=None, seconds=0.5, warmup=0.1), tmp_path, task=Slow(), progress=False)
    assert 0.5 <= ended.result["training_seconds"] < 1.5
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 1 <= sum("valid" in line for line in lines) <= 11
    assert lines[-1]["seconds"] == ended.result["training_seconds"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"keep": "first"}, "unknown training.keep 'first'"),
        ({"batch": 0}, "training.batch=0 cannot be; give at least 1"),
        ({"lr": 0.0}, "training.lr=0.0 cannot be; give more than 0"),
        ({"ema": 1.0}, "training.ema=1.0 cannot be"),
        ({"betas": [0.9]}, r"training.betas=\[0.9\] cannot be"),
        ({"ema": 0.9, "average": 3}, "training.ema and training.average"),
        ({"steps": None, "seconds": 3.0, "warmup": 100}, "training.warmup=100 counts steps"),
    ],
)
def test_what_cannot_be_is_refused_before_data_is_read(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    given = recipe(**changed)
    given.task = "no task of that name"
    with pytest.raises(EveryformerError, match=message):
        train(given, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_strategy(tmp_path: Path) -> None:
    with pytest.raises(EveryformerError, match=r"training\.devices=1 with training\.strategy='nonsense' cannot be"):
        train(recipe(strategy="nonsense"), tmp_path / "run", task=Sums())
    assert not (tmp_path / "run").exists()


def test_a_misspelt_option_of_the_design() -> None:
    given = recipe()
    given.design["widht"] = 3
    with pytest.raises(UnknownName, match="unknown option of 'gpt' 'widht'; did you mean 'width'"):
        check(given)
