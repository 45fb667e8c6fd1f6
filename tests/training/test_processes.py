"""Runs over several processes end as one process does, on the same batches, also when one of them is killed on the way."""

from __future__ import annotations

import errno
import json
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

from everyformer.errors import RunFailed
from everyformer.training import Run, checkpoints, shards, train

from .fakes import EvenSums, Sums, recipe

OPTIONS: dict[str, Any] = {"evaluate_every": 4, "ema": 0.9, "checkpoints": 9}

SCRIPT = """
import json, os, signal, sys
from training.fakes import EvenSums, Sums
from training.test_processes import given, turning
from everyformer.training import train
from everyformer.training.lesson import Lesson

if __name__ == "__main__":
    folder, options, resume, fatal = sys.argv[1:]
    whole = Lesson.step

    def step(self, *given):
        if self.fabric.global_rank == 1 and self.state.step == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *given)

    Lesson.step = step
    options = json.loads(options)
    task, wanted = (EvenSums, turning) if "context_parallel" in options else (Sums, given)
    train(wanted(**options), folder, task=task(), progress=False, resume=resume == "resume")
"""


def given(**options: Any) -> Any:
    made = recipe(**OPTIONS, **options)
    made.design["dropout"] = 0.0
    return made


def turning(**options: Any) -> Any:
    """A design that can be cut along the sequence: its attention turns queries and keys, and adds no places."""
    made = given(**options)
    # Gated units have gradients as small as AdamW's eps at first, where it shows the last bits of a sum.
    feedforward = {"swap": "backbone.blocks.*.feedforward", "with": {"feedforward.MLP": {}}}
    made.design |= {"system": "llama", "edits": [feedforward]}
    return made


def started(
    folder: Path, strategy: str, *start: str, resume: bool = False, fatal: int = -1, **options: int
) -> subprocess.Popen[str]:
    """A run of two processes, the second of which dies at the step `fatal`, begun by `python *start`."""
    options = {"devices": 2, "strategy": strategy, **options}
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path]), "CUDA_VISIBLE_DEVICES": ""}
    resuming = "resume" if resume else "begin"
    command = [sys.executable, *start, script, folder, json.dumps(options), resuming, str(fatal)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said."""
    _, said = running.communicate(timeout=280)
    return running.returncode, said


def same(run: Run, whole: Run) -> None:
    ours, theirs = run.model.state_dict(), whole.model.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0, msg=name)
    assert run.result["metrics"] == whole.result["metrics"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(given(), tmp_path_factory.mktemp("one") / "run", task=Sums(), progress=False)


def test_cut_over_two_processes_one_is_killed_and_two_or_one_go_on(tmp_path: Path, whole: Run) -> None:
    """FSDP: the other process ends with a message, within a minute; pieces of two are read by two and by one.

    The two that go on keep little of each block, and their shares outside of the device.
    """
    began = time.monotonic()
    code, said = ended(started(tmp_path / "two", "fsdp", fatal=7))
    assert code != 0
    assert "has lost another one" in said
    assert "--resume" in said
    assert time.monotonic() - began < 60 + 60, "a minute after its start, which takes a while where many run"
    assert sorted(each.name for each in (tmp_path / "two" / "checkpoints").iterdir()) == [
        "step-0000003",
        "step-0000006",
    ]
    assert len(list((tmp_path / "two" / "checkpoints" / "step-0000006").glob("shards/*.safetensors"))) == 2
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    code, said = ended(started(tmp_path / "two", "fsdp", resume=True, recompute=True, offload=True))
    assert code == 0, said
    same(Run.open(tmp_path / "two"), whole)
    same(train(given(), tmp_path / "one", task=Sums(), progress=False, resume=True), whole)


def unfinished(run: Path, folder: Path, step: int) -> Path:
    """A copy of a run as it was after a step."""
    shutil.copytree(run, folder)
    (folder / "result.json").unlink()
    for each in (folder / "checkpoints").iterdir():
        if each.name > f"step-{step:07d}":
            shutil.rmtree(each)
    return folder


def test_two_processes_share_heads_and_hidden_units_and_one_goes_on(tmp_path: Path, whole: Run) -> None:
    code, said = ended(started(tmp_path / "two", "auto", tensor_parallel=2))
    assert code == 0, said
    same(Run.open(tmp_path / "two"), whole)
    folder = unfinished(tmp_path / "two", tmp_path / "one", 6)
    same(train(given(), folder, task=Sums(), progress=False, resume=True), whole)


def test_two_processes_share_each_sequence(tmp_path: Path) -> None:
    code, said = ended(started(tmp_path / "two", "ddp", context_parallel=2))
    assert code == 0, said
    same(Run.open(tmp_path / "two"), train(turning(), tmp_path / "one", task=EvenSums(), progress=False))


@pytest.mark.slow
def test_four_processes_in_two_groups_and_two_or_one_go_on(tmp_path: Path, whole: Run) -> None:
    """The weights of shares cut as well; a checkpoint of one or four processes is read by any number."""
    code, said = ended(started(tmp_path / "four", "fsdp", devices=4, tensor_parallel=2))
    assert code == 0, said
    same(Run.open(tmp_path / "four"), whole)
    assert len(list((tmp_path / "four" / "checkpoints" / "step-0000006").glob("shards/*.safetensors"))) == 4
    one = unfinished(tmp_path / "four", tmp_path / "one", 6)
    same(train(given(), one, task=Sums(), progress=False, resume=True), whole)
    others = {
        "fsdp": ("four", {}),
        "shared": ("four", {"tensor_parallel": 2}),
        "from one": ("one", {"tensor_parallel": 2}),
    }
    for name, (begun, options) in others.items():
        folder = unfinished(tmp_path / begun, tmp_path / name, 6)
        code, said = ended(started(folder, "fsdp", resume=True, **options))
        assert code == 0, said
        same(Run.open(folder), whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_started_by_torchrun(tmp_path: Path, whole: Run, strategy: str, nodes: int) -> None:
    """On one host, and on two that share a folder."""
    hosts = [
        started(
            tmp_path / "two", strategy, "-m", "torch.distributed.run", "--nproc-per-node", str(2 // nodes), "--nnodes", str(nodes),
            "--node-rank", str(host), "--master-addr", "127.0.0.1", "--master-port", "29731", devices=2 // nodes, nodes=nodes,
        )
        for host in range(nodes)
    ]  # fmt: skip
    for host in hosts:
        code, said = ended(host)
        assert code == 0, said
    same(Run.open(tmp_path / "two"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_go_on_where_one_stood(tmp_path: Path, whole: Run, strategy: str) -> None:
    code, said = ended(started(unfinished(whole.folder, tmp_path / "two", 6), strategy, resume=True))
    assert code == 0, said
    same(Run.open(tmp_path / "two"), whole)


def test_a_piece_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    """One process writes pieces as several do, and reads them back whole."""
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


def test_a_full_disk_of_pieces_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause comes out of what torch.distributed.checkpoint wraps it in, and nothing is left half written."""
    import torch.distributed.checkpoint as dcp

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dcp.HuggingFaceStorageWriter, "write_data", full)
    tensors: Any = {"model": {"a": torch.arange(6.0)}}
    with pytest.raises(RunFailed, match=r"the disk of '.*' is full: the checkpoint of step 1 could not be written"):
        checkpoints.save(tmp_path, 1, {}, tensors, Alone())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


class Alone:
    """What a checkpoint asks of the processes of a run, where there is one."""

    is_global_zero = True

    def barrier(self) -> None:
        pass
