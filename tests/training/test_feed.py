"""What a run does when its data is gone, spoilt or slow."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from everyformer.errors import BadInput, RunFailed
from everyformer.training import checkpoints, feed, train
from everyformer.training.feed import Feed, Steps
from everyformer.training.files import hash_of
from everyformer.training.order import BySamples

from .fakes import SIZES, Sums, recipe


class FromFiles(Sums):
    """Sums whose every sample stands in a file, read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for index in range(SIZES["train"]):
            (folder / f"{index}.txt").write_text("here")

    def batch(self, split: str, indices: Any, *, train: bool = False, seed: int = 0) -> Any:
        for index in indices if train else ():
            if (self.folder / f"{index}.txt").read_text() != "here":
                raise BadInput(f"'{self.folder / f'{index}.txt'}' is damaged")
        return super().batch(split, indices, train=train, seed=seed)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["No such file or directory", "is damaged"])
def test_a_file_that_is_gone_or_spoilt_stops_a_run_which_goes_on_once_it_is_back(
    tmp_path: Path, workers: int, fault: str
) -> None:
    (tmp_path / "data").mkdir()
    task, given = FromFiles(tmp_path / "data"), recipe(workers=workers)
    lost = BySamples(SIZES["train"], 8, 0)(4)[3]
    path = task.folder / f"{lost}.txt"
    path.unlink() if fault.startswith("No") else path.write_text("he")
    with pytest.raises(RunFailed) as told:
        train(given, tmp_path / "run", task=task, progress=False)  # type: ignore[arg-type]
    said = str(told.value)
    assert said.startswith("the samples of step 5 cannot be read: ")
    assert fault in said
    assert str(path) in said
    assert said.endswith("what was saved before is intact. Put the data right, then go on with resume (--resume)")
    found = checkpoints.newest(tmp_path / "run" / "checkpoints", print)
    assert found is not None
    assert found.step == 3
    path.write_text("here")
    ended = train(given, tmp_path / "run", task=task, progress=False, resume=True)  # type: ignore[arg-type]
    whole = train(given, tmp_path / "whole", task=Sums(), progress=False)  # type: ignore[arg-type]
    assert hash_of(ended.folder / "model.safetensors") == hash_of(whole.folder / "model.safetensors")


def test_a_slow_reader_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SLOW", 0.05)
    read = threading.Event()

    class Slow(Sums):
        def batch(self, *given: Any, **more: Any) -> Any:
            read.wait(5)
            return super().batch(*given, **more)

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            read.set()

    steps = Steps(Slow(), BySamples(53, 8, 0), seed=0, accumulate=1)  # type: ignore[arg-type]
    with Feed(steps, 4, 0, say) as made:
        first = next(made)
    assert first.samples == BySamples(53, 8, 0)(4)
    assert said[:2] == ["step 5 has waited 0 s for its samples, and waits on"] * 2
    assert "of the time so far went into waiting for samples" in said[2]
    assert said[2].endswith("training.workers=2")
