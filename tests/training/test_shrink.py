"""A run made smaller: what each step costs, the run that it leaves, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer import cli
from everyformer.recipe import load_recipe
from everyformer.training import Run, train
from support.tiny_data import pictures

TINY = (
    "data.image=16", "design.convs=1", "design.width=16", "design.depth=2", "design.heads=2", "training.steps=1",
    "training.precision=fp32", "training.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = pictures(tmp_path_factory.mktemp("data") / "pictures")
    recipe = load_recipe("pictures", [*TINY, f"data.path={folder}"])
    return train(recipe, tmp_path_factory.mktemp("runs") / "plain", progress=False)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*words: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["everyformer", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        found = capsys.readouterr()
        return code, found.out + found.err

    return command


def test_steps_leave_a_run_like_any_other(run: Run, tmp_path: Path, said: Any) -> None:
    out = tmp_path / "small"
    given = ("shrink", run.folder, "--samples", 8, "--split", "test", "--batch", 4, "--out", out)
    steps = ("--with", "gptq,bits=3,group=8,paths=**.mixer.*", "--with", "smoothquant,paths=**.feedforward.*")
    code, text = said(*given, *steps, "--json")
    assert code == 0, text
    told = json.loads(text)["steps"]
    assert [each["name"] for each in told[:2]] == ["as it is", "gptq,bits=3,group=8,paths=**.mixer.*"]
    assert told[0]["bytes"] > told[1]["bytes"] > told[2]["bytes"]
    small = Run.open(out)
    assert isinstance(small.model.get_submodule("backbone.blocks.1.mixer.qkv"), ef.compression.Quantized)
    assert isinstance(small.model.get_submodule("backbone.blocks.1.feedforward.up"), ef.compression.Int8)
    assert small.evaluate("test").metrics["accuracy"] == pytest.approx(told[2]["metric"])
    values = torch.rand(2, 3, 16, 16)
    assert torch.equal(Run.open(out).model(values), small.model(values))
    assert torch.equal(Run.open(run.folder).model(values), run.model(values)), "the run that was shrunk is as it was"
    assert said("export", out, "--to", "torch", "--out", tmp_path / "exported")[0] == 0
    code, text = said(*given, *steps)
    assert (code, "exists" in text) == (2, True)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("gptqq", "did you mean 'gptq'"), ("vit", "'vit' is not a method"), ("gptq,bit=4", "did you mean 'bits'"), ("gptq,bits", "NAME,key=value; given 'bits'"),
        ("gptq,bits=0", "2 to 16 bits; given bits=0"), ("gptq,bits=four", "takes int; given 'four'"), ("gptq,calibration=1", "unknown option"),
    ],
)  # fmt: skip
def test_a_step_that_there_is_not_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, said: Any, step: str, words: str
) -> None:
    code, text = said("shrink", run.folder, "--with", step, "--samples", 2, "--out", tmp_path / "small")
    assert (code, words in text) == (2, True), text
    assert not (tmp_path / "small").exists()


def test_no_samples_are_no_calibration(run: Run, tmp_path: Path, said: Any) -> None:
    code, text = said("shrink", run.folder, "--with", "gptq", "--samples", 0, "--out", tmp_path / "small")
    assert (code, "at least one sample; given 0" in text) == (2, True)
