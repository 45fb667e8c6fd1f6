"""A run made faster: what is tried, what is chosen, and the run that it leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer import cli
from everyformer.contracts import Reduction
from everyformer.recipe import load_recipe
from everyformer.training import Run, train
from everyformer.training.speedup import METHODS, Try, best
from support.tiny_data import pictures

TINY = (
    "data.image=16", "design.convs=1", "design.width=16", "design.depth=3", "design.heads=2", "training.steps=1",
    "training.precision=fp32", "training.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = pictures(tmp_path_factory.mktemp("data") / "pictures")
    recipe = load_recipe("pictures", [*TINY, f"data.path={folder}"])
    return train(recipe, tmp_path_factory.mktemp("runs") / "plain", progress=False)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["everyformer", "speedup", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    found = capsys.readouterr()
    return code, found.out + found.err


def test_the_best_is_kept_as_a_run_of_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fast"
    options = ("--budget", 0.95, "--max-loss", 100, "--split", "test", "--batch", 8, "--out", out)
    code, text = said(monkeypatch, capsys, run.folder, *options, "--json")
    assert code == 0, text
    told = json.loads(text)
    assert told["tried"][0]["name"] == "as it is"
    assert {each["name"] for each in told["tried"] if not each["refused"]} >= {"ToMe", "PiToMe", "EViT", "ZeroTPrune"}
    for each in told["tried"][1:]:
        assert each["refused"] or each["flops"] <= 0.97 or each["name"] in METHODS
    if told["best"] is None:
        assert not out.exists()
        return
    faster = Run.open(out)
    assert any(isinstance(part, (Reduction, ef.compression.Int8)) for part in faster.model.modules())
    pictures = torch.rand(2, 3, 16, 16)
    assert faster.model(pictures).shape == run.model(pictures).shape
    assert faster.evaluate("test").metrics[told["metric"]] == told["best"]["metric"]
    assert faster.result["reduction"]["name"] == told["best"]["name"]
    code, text = said(monkeypatch, capsys, run.folder, *options)
    assert (code, "exists" in text) == (2, True)


def test_a_wish_that_none_fulfils_keeps_nothing(run: Run) -> None:
    tries = [
        (Try("quick", 0.5, 0.7, 3.0, 2.0, 0.5), run.model),
        (Try("slow", 0.9, 0.9, 0.1, 0.8, 0.9), run.model),
        (Try("good", 0.7, 0.89, 0.4, 1.6, 0.7), run.model),
        (Try("never", 0.7, 0.9, 0.0, 9.0, 0.7, refused="it does not fit"), run.model),
    ]
    chosen = best(tries, budget=0.7, max_loss=0.5)
    assert chosen is not None
    assert chosen[0].name == "good"
    assert best(tries, budget=0.5, max_loss=0.5) is None


def test_a_budget_that_is_none_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(monkeypatch, capsys, run.folder, "--budget", 1.5)
    assert (code, "between 0 and 1; given 1.5" in text) == (2, True)


def test_expedite_works_on_a_coarser_grid_and_gives_the_whole_one_back() -> None:
    model = ef.create("vit", classes=3, image=32, patch=4, width=16, depth=4, heads=2, seed=0)
    made = ef.reduction.expedite(model, keep=0.25, temperature=0.1)
    counts = []
    for block in made.backbone.blocks:
        block.register_forward_hook(lambda part, given, tokens: counts.append(tokens.count))
    tokens = made.features(torch.randn(2, 3, 32, 32))
    assert counts == [65, 17, 17, 17, 17, 65]
    assert (tokens.grid, tokens.count) == ((8, 8), 65)
