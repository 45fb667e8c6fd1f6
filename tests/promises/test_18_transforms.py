"""Promise 18: a task saved with a run and loaded without data answers raw input as the report says it does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everyformer.data import find_task, load_task
from everyformer.data.precision import Precision
from everyformer.data.tasks.translation import bleu
from support.tiny_data import TINY, series

CLASSES = ["audio-classification", "image-classification", "text-classification"]


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_raw_files_are_those_of_the_score(name: str, tmp_path: Path) -> None:
    tiny = TINY[name](tmp_path / "data")
    score = tiny.task.evaluate(tiny.model, "test")
    tiny.task.save(tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    answers = loaded.predict(tiny.model, tiny.raw)
    truth = [tiny.task.classes[int(y)] for y in tiny.task.batch("test", range(len(tiny.raw)))["labels"]]
    right = [answer["label"] == label for answer, label in zip(answers, truth)]
    assert sum(right) / len(right) == score.metrics["accuracy"]
    loss = [-np.log(answer["scores"][label]) for answer, label in zip(answers, truth)]
    assert np.mean(loss) == pytest.approx(score.metrics["loss"], rel=1e-5)


def test_masks_of_raw_pictures_are_those_of_the_score(tmp_path: Path) -> None:
    tiny = TINY["segmentation"](tmp_path / "data")
    score = tiny.task.evaluate(tiny.model, "test")
    tiny.task.save(tmp_path / "task")
    said = [each["mask"] for each in load_task(tmp_path / "task").predict(tiny.model, tiny.raw)]
    truth = [np.asarray(Image.open(str(path).replace("images", "masks"))) for path in tiny.raw]
    right = [(a == b)[b != 255] for a, b in zip(said, truth)]
    assert np.concatenate(right).mean() == score.metrics["accuracy"]


def test_depths_of_raw_pictures_are_those_of_the_score(tmp_path: Path) -> None:
    tiny = TINY["depth"](tmp_path / "data")
    score = tiny.task.evaluate(tiny.model, "test")
    tiny.task.save(tmp_path / "task")
    said = [each["depth"] for each in load_task(tmp_path / "task").predict(tiny.model, tiny.raw)]
    truth = [np.asarray(Image.open(str(path).replace("images", "masks"))) * 0.001 for path in tiny.raw]
    gaps = np.concatenate([(abs(a - b)[b > 0] / b[b > 0]) for a, b in zip(said, truth, strict=True)])
    assert gaps.mean() == pytest.approx(score.metrics["abs_rel"], rel=1e-5)


def test_boxes_of_raw_pictures_are_those_of_the_score(tmp_path: Path) -> None:
    tiny = TINY["detection"](tmp_path / "data")
    loaded = find_task("detection").open(path=str(tmp_path / "data"), surest=0.0)
    loaded.save(tmp_path / "task")
    said = load_task(tmp_path / "task").predict(tiny.model, tiny.raw)
    precision = Precision()
    for path, answer in zip(tiny.raw, said, strict=True):
        boxes = torch.tensor([each["box"] for each in answer["things"]])
        kinds = torch.tensor([tiny.task.classes.index(each["label"]) for each in answer["things"]])
        scores = torch.tensor([each["score"] for each in answer["things"]])
        told = json.loads((path.parent / "boxes.json").read_text())
        own = [each for each in told["annotations"] if each["image_id"] == 40 + int(path.stem)]
        truth = torch.tensor([each["bbox"] for each in own]).reshape(-1, 4).float()
        ends = [torch.cat((each[:, :2], each[:, :2] + each[:, 2:]), 1) for each in (boxes, truth)]
        precision.add(ends[0], kinds, scores, ends[1], torch.tensor([each["category_id"] - 7 for each in own]).long())
    assert precision.figures() == pytest.approx(tiny.task.evaluate(tiny.model, "test").metrics, abs=1e-6)


def test_translations_of_raw_texts_are_those_of_the_score(tmp_path: Path) -> None:
    tiny = TINY["translation"](tmp_path / "data")
    decoding = {"strategy": "beam", "size": 3, "max_tokens": 12}
    score = tiny.task.evaluate(tiny.model, "test", decoding=decoding)
    tiny.task.save(tmp_path / "task")
    said = [a["text"] for a in load_task(tmp_path / "task").predict(tiny.model, tiny.raw, decoding=decoding)]
    figures = bleu(said, tiny.task.texts["test"][1])
    assert {k: v for k, v in score.metrics.items() if k != "loss"} == figures


def test_forecasts_are_in_the_units_of_the_columns(tmp_path: Path) -> None:
    tiny = TINY["forecasting"](tmp_path / "data")
    score = tiny.task.evaluate(tiny.model, "test")
    tiny.task.save(tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    lines = tiny.raw[0].read_text().splitlines()
    values = np.array([[float(v) for v in line.split(",")[1:]] for line in lines[1:]])
    errors = []
    for start in range(tiny.task.size("test")):
        end = 96 + start
        cut = tmp_path / f"until_{end}.csv"
        cut.write_text("\n".join(lines[: end + 1]) + "\n")
        (answer,) = loaded.predict(tiny.model, [str(cut)])
        forecast = np.array([answer["forecast"][name] for name in ("load", "heat")]).T
        errors.append(np.abs(forecast - values[end : end + 6]).mean())
        assert answer["times"][0] == lines[end + 1].split(",")[0]
    assert np.mean(errors) == pytest.approx(score.metrics["mae_units"], rel=1e-5)


@pytest.mark.parametrize("name", ["language-modelling", "masked-language-modelling"])
def test_text_tasks_answer_the_same_after_loading(name: str, tmp_path: Path) -> None:
    tiny = TINY[name](tmp_path / "data")
    tiny.task.save(tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    decoding = {"max_tokens": 40}
    assert loaded.predict(tiny.model, tiny.raw, decoding=decoding) == tiny.task.predict(
        tiny.model, tiny.raw, decoding=decoding
    )


@pytest.mark.parametrize("name", TINY)
def test_a_loaded_task_has_the_facts_and_no_data(name: str, tmp_path: Path) -> None:
    tiny = TINY[name](tmp_path / "data")
    tiny.task.save(tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    assert loaded.facts == tiny.task.facts
    assert loaded.size("train") == 0
    assert not list((tmp_path / "task").glob("*.tmp"))


def test_a_series_moved_by_a_constant_moves_its_forecast_by_the_same(tmp_path: Path) -> None:
    tiny = TINY["forecasting"](tmp_path / "data")
    path = series(tmp_path / "moved.csv", 40)
    (near,) = tiny.task.predict(tiny.model, [str(path)])
    rows = [line.split(",") for line in path.read_text().splitlines()]
    moved = [[r[0], str(float(r[1]) + 50), r[2]] for r in rows[1:]]
    path.write_text("\n".join(",".join(r) for r in [rows[0], *moved]))
    (far,) = tiny.task.predict(tiny.model, [str(path)])
    shift = np.array(far["forecast"]["load"]) - np.array(near["forecast"]["load"])
    np.testing.assert_allclose(shift, 50, rtol=1e-3)
