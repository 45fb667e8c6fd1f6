"""Checkpoints are whole, or passed over with one line."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from everyformer.errors import EveryformerError, RunFailed
from everyformer.specs import spec
from everyformer.training import Run, checkpoints, files, train
from everyformer.training.files import hash_of, save_tensors

from .fakes import Poison, Steep, Sums, recipe


def tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"weight": torch.full((3, 2), float(step))}, "optimizer": {}}


def test_files_are_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    given = {
        "a": torch.randn(3, 4).T, "b": torch.randn(5).bfloat16(), "c": torch.tensor(7), "d": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3), "half": torch.randn(2).half(), "bytes": torch.arange(5, dtype=torch.uint8),
    }  # fmt: skip
    digest = save_tensors(tmp_path / "x.safetensors", given)
    assert digest == hash_of(tmp_path / "x.safetensors")
    read = load_file(tmp_path / "x.safetensors")
    assert set(read) == set(given)
    assert all(torch.equal(read[name], given[name]) and read[name].dtype == given[name].dtype for name in given)


def test_there_and_back(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        checkpoints.save(tmp_path, step, {"lr": step / 3}, tensors(step))
        checkpoints.prune(tmp_path, 2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["step-0000010", "step-0000015"]
    said: list[str] = []
    found = checkpoints.newest(tmp_path, said.append)
    assert found is not None
    assert (found.step, found.state, said) == (15, {"lr": 5.0}, [])
    assert torch.equal(found.tensors["model"]["weight"], tensors(15)["model"]["weight"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut": (lambda folder: cut(folder / "model.safetensors"), "model.safetensors is damaged"),
    "one bit": (lambda folder: flip(folder / "model.safetensors"), "model.safetensors is damaged"),
    "missing": (lambda folder: (folder / "optimizer.safetensors").unlink(), "optimizer.safetensors is missing"),
    "state cut": (lambda folder: cut(folder / "state.json"), "its state.json is damaged"),
    "state of another kind": (lambda folder: (folder / "state.json").write_text("[]"), "its state.json is damaged"),
    "no state": (lambda folder: (folder / "state.json").unlink(), "it has no state.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (5, 10):
        checkpoints.save(tmp_path, step, {}, tensors(step))
    apply, fault = DAMAGES[damage]
    apply(tmp_path / "step-0000010")
    said: list[str] = []
    found = checkpoints.newest(tmp_path, said.append)
    assert found is not None
    assert found.step == 5
    assert said == [f"checkpoint step-0000010 is passed over: {fault}"]


def test_an_unfinished_one_is_never_seen_and_is_cleared_away(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 5, {}, tensors(5))
    (tmp_path / ".new-step-0000010").mkdir()
    (tmp_path / ".new-step-0000010" / "model.safetensors").write_bytes(b"half")
    said: list[str] = []
    found = checkpoints.newest(tmp_path, said.append)
    assert found is not None
    assert (found.step, said) == (5, [])
    checkpoints.prune(tmp_path, 2)
    assert [each.name for each in tmp_path.iterdir()] == ["step-0000005"]


def test_resume_takes_the_one_before_a_damaged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(recipe(), tmp_path / "run", task=Sums(), progress=False)
    expected = hash_of(whole.folder / "model.safetensors")
    (whole.folder / "result.json").unlink()
    cut(whole.folder / "checkpoints" / "step-0000012" / "model.safetensors")
    again = train(recipe(), tmp_path / "run", task=Sums(), resume=True)
    assert hash_of(again.folder / "model.safetensors") == expected
    said = capsys.readouterr().err
    assert "checkpoint step-0000012 is passed over: model.safetensors is damaged\n" in said
    assert "going on after step 9" in said


def fill_disk_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    whole, done = files.write_all, [0]

    def write(file: Any, data: Any) -> None:
        done[0] += 1
        if done[0] > writes:
            file.write(bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(file, data)

    monkeypatch.setattr(files, "write_all", write)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe(), tmp_path_factory.mktemp("whole"), task=Sums(), progress=False)


@pytest.mark.parametrize("writes", [0, 30, 150])
def test_a_full_disk_stops_with_one_message_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run, writes: int
) -> None:
    with monkeypatch.context() as patched:
        fill_disk_after(patched, writes)
        with pytest.raises(RunFailed, match=r"the disk of '.*' is full: .* what was saved before is intact"):
            train(recipe(), tmp_path / "broken", task=Sums(), progress=False)
    said: list[str] = []
    checkpoints.newest(tmp_path / "broken" / "checkpoints", said.append)
    assert said == []
    broken = train(recipe(), tmp_path / "broken", task=Sums(), progress=False, resume=True)
    assert hash_of(whole.folder / "model.safetensors") == hash_of(broken.folder / "model.safetensors")


@pytest.mark.parametrize(("poison", "what"), [(Poison, "loss"), (Steep, "gradient")])
def test_what_is_not_a_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path, poison: Any, what: str) -> None:
    class Poisoned(Sums):
        def objective(self, **options: Any) -> Any:
            return spec(poison, after=7)

    with pytest.raises(RunFailed, match=rf"the {what} of step 8 is not a number .* lower training\.lr"):
        train(recipe(), tmp_path / "run", task=Poisoned(), progress=False)
    found = checkpoints.newest(tmp_path / "run" / "checkpoints", print)
    assert found is not None
    assert found.step == 6
    assert all(value.isfinite().all() for value in found.tensors["model"].values())


def test_a_checkpoint_of_another_design_is_refused(tmp_path: Path) -> None:
    train(recipe(), tmp_path, task=Sums(), progress=False)
    (tmp_path / "result.json").unlink()
    other = recipe()
    other.design["width"] = 24
    with pytest.raises(EveryformerError, match="checkpoint of step 12 is of another design"):
        train(other, tmp_path, task=Sums(), progress=False, resume=True)
