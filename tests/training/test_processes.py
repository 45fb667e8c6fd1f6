"""Runs over several processes end as one process does, on the same batches, also when one of them is killed on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from everyformer.training import Run, train

from .fakes import Sums, recipe

OPTIONS: dict[str, Any] = {"evaluate_every": 4, "ema": 0.9, "checkpoints": 9}

SCRIPT = """
import os, signal, sys
from training.fakes import Sums
from training.test_processes import given
from everyformer.training import train
from everyformer.training.lesson import Lesson

if __name__ == "__main__":
    folder, strategy, resume, fatal = sys.argv[1:]
    whole = Lesson.step

    def step(self, *given):
        if self.fabric.global_rank == 1 and self.state.step == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *given)

    Lesson.step = step
    train(given(devices=2, strategy=strategy), folder, task=Sums(), progress=False, resume=resume == "resume")
"""


def given(**options: Any) -> Any:
    made = recipe(**OPTIONS, **options)
    made.design["dropout"] = 0.0
    return made


def two(
    folder: Path, strategy: str, *, resume: bool = False, fatal: int = -1, torchrun: bool = False
) -> subprocess.CompletedProcess[str]:
    """A run of two processes, the second of which dies at the step `fatal`."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path]), "CUDA_VISIBLE_DEVICES": ""}
    start = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29731"] if torchrun else []
    command = [sys.executable, *start, script, folder, strategy, "resume" if resume else "begin", str(fatal)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def same(run: Run, whole: Run) -> None:
    ours, theirs = run.model.state_dict(), whole.model.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0, msg=name)
    assert run.result["metrics"] == whole.result["metrics"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(given(), tmp_path_factory.mktemp("one") / "run", task=Sums(), progress=False)


def test_cut_over_two_processes_one_is_killed_and_two_or_one_go_on(tmp_path: Path, whole: Run) -> None:
    """FSDP: the other process ends with a message, within a minute; pieces of two are read by two and by one."""
    began = time.monotonic()
    ended = two(tmp_path / "two", "fsdp", fatal=7)
    assert ended.returncode != 0
    assert "has lost another one" in ended.stderr
    assert "--resume" in ended.stderr
    assert time.monotonic() - began < 60 + 60, "a minute after its start, which takes a while where many run"
    assert sorted(each.name for each in (tmp_path / "two" / "checkpoints").iterdir()) == [
        "step-0000003",
        "step-0000006",
    ]
    assert len(list((tmp_path / "two" / "checkpoints" / "step-0000006").glob("shards/*.safetensors"))) == 2
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    again = two(tmp_path / "two", "fsdp", resume=True)
    assert again.returncode == 0, again.stderr
    same(Run.open(tmp_path / "two"), whole)
    same(train(given(), tmp_path / "one", task=Sums(), progress=False, resume=True), whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_started_by_torchrun(tmp_path: Path, whole: Run, strategy: str) -> None:
    ended = two(tmp_path / "two", strategy, torchrun=True)
    assert ended.returncode == 0, ended.stderr
    same(Run.open(tmp_path / "two"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_go_on_where_one_stood(tmp_path: Path, whole: Run, strategy: str) -> None:
    shutil.copytree(whole.folder, tmp_path / "two")
    for left in ("result.json", "checkpoints/step-0000009", "checkpoints/step-0000012"):
        path = tmp_path / "two" / left
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = two(tmp_path / "two", strategy, resume=True)
    assert ended.returncode == 0, ended.stderr
    same(Run.open(tmp_path / "two"), whole)


def test_a_piece_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    """One process writes pieces as several do, and reads them back whole."""
    from everyformer.training import checkpoints, shards

    tensors: dict[str, dict[str, Tensor]] = {
        "model": {"a": torch.arange(6.0).view(2, 3)},
        "optimizer": {"a/step": torch.tensor(3.0)},
    }
    for step in (1, 2):
        folder = checkpoints.save(tmp_path, step, {}, tensors, Alone())  # type: ignore[arg-type]
    piece = next(folder.glob("shards/*.safetensors"))
    piece.write_bytes(piece.read_bytes()[:-3])
    said: list[str] = []
    found = checkpoints.newest(tmp_path, said.append)
    assert found is not None
    assert found.step == 1
    assert said == [f"checkpoint step-0000002 is passed over: {piece.relative_to(folder)} is damaged"]
    torch.testing.assert_close(found.tensors, tensors)
    assert not shards.cut(found.tensors["model"])


class Alone:
    """What a checkpoint asks of the processes of a run, where there is one."""

    is_global_zero = True

    def barrier(self) -> None:
        pass
