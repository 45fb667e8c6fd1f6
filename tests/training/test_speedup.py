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
from everyformer.costs import flops, on_meta
from everyformer.recipe import load_recipe
from everyformer.training import Run, train
from everyformer.training.speedup import METHODS, Try, best, data_of, keep_as, packed, share_of, tried
from support.tiny_data import pictures, texts

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


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = texts(tmp_path_factory.mktemp("data") / "texts")
    options = ("design.system=bert", "design.size=tiny", "design.width=16", "design.heads=2", "design.depth=1")
    recipe = load_recipe("texts", [*options, *TINY[-3:], f"data.path={folder}"])
    return train(recipe, tmp_path_factory.mktemp("runs") / "texts", progress=False)


def test_texts_of_different_lengths_are_tried_without_padding(reading: Run, tmp_path: Path) -> None:
    """The same answers from fewer FLOPs, those of the texts one by one, and a run that goes on packing."""
    task = data_of(reading, None)
    (_, plain), (how, model) = (lambda found: (next(found), next(found)))(tried(reading, task, budget=0.5, batch=6))
    assert (how.name, how.data, how.loss) == ("Packed", {"packed": True}, 0.0)
    assert model is plain is reading.model
    batch = task.batch("valid", range(min(6, task.size("valid"))))
    lengths, longest = batch["mask"].sum(1).tolist(), batch["mask"].shape[1]
    design = on_meta(ef.designs.design_of(model))
    ids = {n: {"inputs": torch.zeros(1, n, dtype=torch.long)} for n in {*lengths, longest}}
    each = {n: flops(design, fields)[""] for n, fields in ids.items()}
    assert how.flops == pytest.approx(sum(each[n] for n in lengths) / len(lengths) / each[longest])
    kept = keep_as(reading, model, tmp_path / "packed", data=how.data)
    again = data_of(kept, None)
    assert "lengths" in again.batch("valid", [0, 1])
    assert again.evaluate(kept.model, "valid").metrics["accuracy"] == how.metric
    said = ["one text", "another text that is longer than it"]
    for one, other in zip(kept.predict(said), reading.predict(said), strict=True):
        assert one["label"] == other["label"]
    assert packed(again, "valid") is None


def test_nothing_is_packed_where_all_are_of_one_length(run: Run) -> None:
    assert packed(data_of(run, None), "test") is None


def test_a_budget_is_a_share_or_milliseconds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everyformer.training.speedup.seconds", lambda *_: 0.02)
    assert share_of("0.6", run.model, {}) == 0.6
    assert share_of("12ms", run.model, {}) == share_of("12 ms", run.model, {}) == pytest.approx(0.6)
    for given, told in (("25ms", "takes 20 ms for a batch"), ("12s", "such as 12ms; given '12s'"), (".", "given '.'")):
        with pytest.raises(ef.BadInput, match=told):
            share_of(given, run.model, {})


def test_expedite_works_on_a_coarser_grid_and_gives_the_whole_one_back() -> None:
    model = ef.create("vit", classes=3, image=32, patch=4, width=16, depth=4, heads=2, seed=0)
    made = ef.reduction.expedite(model, keep=0.25, temperature=0.1)
    counts = []
    for block in made.backbone.blocks:
        block.register_forward_hook(lambda part, given, tokens: counts.append(tokens.count))
    tokens = made.features(torch.randn(2, 3, 32, 32))
    assert counts == [65, 17, 17, 17, 17, 65]
    assert (tokens.grid, tokens.count) == ((8, 8), 65)
