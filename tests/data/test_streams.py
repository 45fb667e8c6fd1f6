"""Text read from files of any size: every token once, whatever is killed, however many processes read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from everyformer.data import find_task, streams
from everyformer.errors import BadInput, EveryformerError, RunFailed
from everyformer.objectives.base import IGNORED
from everyformer.recipe import Recipe, Training
from everyformer.training import train
from everyformer.training.feed import Steps
from everyformer.training.lesson import Lesson
from everyformer.training.order import BySamples
from support.tiny_data import sentence, table


def written(folder: Path) -> str:
    """Shards of both kinds in a folder, and what they say one after the other."""
    folder.mkdir()
    random = np.random.default_rng(1)
    texts = ["\n".join(sentence(random) for _ in range(9)) + " ünd 日本\n" * shard for shard in range(3)]
    (folder / "a.txt").write_text(texts[0])
    table(folder / "b.jsonl", [{"text": text} for text in texts[1:]])
    (folder / "c.txt").write_text("")
    (folder / "d.txt").write_text(texts[2])
    return "".join(each if each.endswith("\n") else each + "\n" for each in (texts[0],)) + "".join(
        each + "\n" for each in texts[1:]
    ) + texts[2]  # fmt: skip


def opened(folder: Path, **options: Any) -> Any:
    given = {"tokens": "bytes", "length": 16, "fractions": [1.0, 0.0, 0.0], "index": str(folder / "index"), **options}
    return find_task("streamed-language-modelling").open(path=str(folder), **given)


@pytest.mark.parametrize("kind", ["bytes", "characters", "bpe"])
@pytest.mark.parametrize("length", [7, 16, 4000])
def test_windows_are_the_text_cut_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, length: int
) -> None:
    monkeypatch.setattr(streams, "LONGEST", 30)
    monkeypatch.setattr(streams, "AT_ONCE", 4)
    text = written(tmp_path / "data")
    task = opened(tmp_path / "data", tokens=kind, length=length, vocabulary=300)
    batch = task.batch("train", range(task.size("train")))
    labels = batch["labels"][batch["labels"] != IGNORED].tolist()
    said = task.vocabulary.decode([int(batch["inputs"][0, 0]), *labels])
    assert said == text
    assert torch.equal(batch["inputs"][1:, 0], batch["labels"][:-1, -1])
    backwards = range(task.size("train"))[::-1]
    assert torch.equal(task.batch("train", backwards)["labels"], batch["labels"].flip(0))


def test_an_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "data")
    whole = opened(tmp_path / "data")
    monkeypatch.setattr(streams, "_write_index", lambda *given: pytest.fail("made again"))
    assert opened(tmp_path / "data").size("train") == whole.size("train")


def test_parts_are_files_of_their_name_or_the_end_of_the_others(tmp_path: Path) -> None:
    written(tmp_path / "data")
    whole = opened(tmp_path / "data").size("train")
    cut = opened(tmp_path / "data", fractions=[0.5, 0.3, 0.2])
    sizes = [cut.size(split) for split in ("train", "valid", "test")]
    assert sum(sizes) == whole
    assert sizes[1:] == [round(whole * 0.3), round(whole * 0.2)]
    named = opened(tmp_path / "data", train="[ab].*", valid="d.txt")
    assert named.size("train") + named.size("valid") == pytest.approx(whole, abs=1)
    with pytest.raises(EveryformerError, match=r"no files in '.*' match data\.test=x\*"):
        opened(tmp_path / "data", train="a.txt", test="x*")


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_window_of_an_epoch(tmp_path: Path, world: int) -> None:
    written(tmp_path / "data")
    task = opened(tmp_path / "data", limit=24)
    ranks = [Steps(task, BySamples(24, 6, 5), seed=5, accumulate=1, rank=r, world=world) for r in range(world)]
    seen = Counter(
        row for step in range(4) for steps in ranks for part in steps.read(step).parts for row in rows(part.batch)
    )
    assert seen == Counter(rows(task.batch("train", range(24))))


def rows(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat((batch["inputs"], batch["labels"]), 1).tolist()]


def test_a_run_that_was_killed_repeats_no_sample_and_skips_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one whose file vanishes on the way says so, and goes on when it is back."""
    written(tmp_path / "data")
    design = {"system": "gpt", "width": 8, "depth": 1, "heads": 1}
    options = {"path": str(tmp_path / "data"), "tokens": "bytes", "length": 16, "limit": 24, "index": str(tmp_path)}
    training = Training(epochs=2, batch=4, precision="fp32", threads=1, checkpoint_every=3, workers=0, logging=[])
    recipe = Recipe("streams", "streamed-language-modelling", options, design, training=training)
    taken: dict[int, list[tuple[int, ...]]] = {}
    whole = Lesson.step

    def step(self: Lesson, parts: Any, rate: float) -> Any:
        if self.state.step == 5 and not taken.get(5):
            (tmp_path / "data" / "b.jsonl").rename(tmp_path / "b.jsonl")
        taken[self.state.step] = [row for part in parts for row in rows(part.batch)]
        return whole(self, parts, rate)

    monkeypatch.setattr(Lesson, "step", step)
    with pytest.raises(RunFailed, match=r"the samples of step \d+ cannot be read: .*b\.jsonl"):
        train(recipe, tmp_path / "run", progress=False)
    (tmp_path / "b.jsonl").rename(tmp_path / "data" / "b.jsonl")
    train(recipe, tmp_path / "run", progress=False, resume=True)
    task = find_task("streamed-language-modelling").open(**options)
    size = task.size("train")
    assert sorted(taken) == list(range(-(-2 * size // 4)))
    seen = [row for step in sorted(taken) for row in taken[step]]
    for epoch in range(2):
        assert Counter(seen[epoch * size : (epoch + 1) * size]) == Counter(rows(task.batch("train", range(size))))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "b.jsonl").write_text('{"text": "a"}\n{"te'), "the row at byte 14 of '.*b.jsonl' is no JSON"),
        (lambda folder: table(folder / "b.jsonl", [{"word": "a"}]), r"has no text in text or .* \(it has word\); .* data\.input"),
        (lambda folder: (folder / "a.txt").write_bytes(b"all is\nw\xffll"), r"a\.txt' is not UTF-8 text \(byte 8 is 0xff\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_place(tmp_path: Path, spoil: Any, message: str) -> None:
    written(tmp_path / "data")
    spoil(tmp_path / "data")
    with pytest.raises(BadInput, match=message):
        opened(tmp_path / "data")


def test_a_file_that_changes_after_it_was_indexed_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "data")
    task = opened(tmp_path / "data")
    (tmp_path / "data" / "a.txt").write_text(json.dumps("shorter"))
    with pytest.raises(BadInput, match=r"a\.txt' has 9 bytes and had \d+ when it was opened"):
        task.batch("train", [0])
