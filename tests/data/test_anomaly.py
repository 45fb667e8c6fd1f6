"""Anomaly detection: what is normal is all that is trained on, scores by hand, and data that tells nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.data import find_task
from everyformer.data.tasks.anomaly import area_under_curve
from support.tiny_data import TINY, pictures


class Said(torch.nn.Module):
    """A model whose score of a pixel is how bright it is."""

    def forward(self, inputs):
        return inputs.mean(1, keepdim=True)


def test_only_what_is_normal_is_trained_on(tmp_path):
    tiny = TINY["anomaly-detection"](tmp_path)
    assert tiny.task.size("train") == 8  # of nine, one to choose by
    assert not tiny.task.batch("train", range(8))["labels"].any()
    assert tiny.task.batch("test", range(18))["labels"].tolist() == [0] * 9 + [1] * 9
    assert tiny.task.state["normal"] == ["cat"]


def test_the_score_of_a_picture_is_its_worst_pixel_and_the_area_counts_pairs(tmp_path):
    """Dogs are brighter; without a Gaussian the score is the largest mean of channels."""
    pictures(tmp_path)
    task = find_task("anomaly-detection").open(path=str(tmp_path), normal=["cat"], smooth=0.0)
    inputs, labels = task.batch("test", range(18)).values()
    scores = inputs.mean(1).amax((1, 2))
    pairs = [(a > b).item() for a in scores[labels == 1] for b in scores[labels == 0]]
    score = task.evaluate(Said(), "test")
    assert score.metrics["auroc"] == pytest.approx(sum(pairs) / len(pairs))
    assert score.metrics["level"] == pytest.approx(scores[labels == 0].mean().item(), rel=1e-5)
    assert area_under_curve(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])) == 0.75


def test_a_gaussian_spreads_a_point_and_keeps_its_sum(tmp_path):
    pictures(tmp_path, side=16)
    task = find_task("anomaly-detection").open(path=str(tmp_path), normal=["cat"], smooth=0.1)
    point = torch.zeros(1, 1, 16, 16)
    point[..., 8, 8] = 1
    heat = task.heat(point, (16, 16))[0]
    assert heat.sum() == pytest.approx(1, abs=1e-3)
    assert (heat[8, 10] / heat[8, 8]).log() == pytest.approx(-(2**2) / 2 / 1.6**2, rel=1e-4)


def test_the_scores_of_raw_pictures_are_those_of_the_score_and_are_written(tmp_path):
    tiny = TINY["anomaly-detection"](tmp_path / "data")
    answers = tiny.task.predict(tiny.model, tiny.raw)
    found = torch.tensor([each["score"] for each in answers])
    assert area_under_curve(found, torch.tensor([0] * 9 + [1] * 9)) == pytest.approx(
        tiny.task.evaluate(tiny.model, "test").metrics["auroc"]
    )
    files = tiny.task.write(tiny.raw[8:10], answers[8:10], tmp_path)
    assert files == ["scores.json", "masks.json", "8.png", "8_overlay.png", "0.png", "0_overlay.png"]
    assert json.loads((tmp_path / "scores.json").read_text())[0] == {
        "file_name": "8.png", "score": answers[8]["score"],
    }  # fmt: skip
    assert np.asarray(Image.open(tmp_path / "8_overlay.png")).shape == (16, 16, 3)


def test_pixels_further_than_normal_pictures_go_are_an_anomaly(tmp_path):
    """Dogs are brighter than all cats; the region of each is written, and of a cat none."""
    pictures(tmp_path)
    task = find_task("anomaly-detection").open(path=str(tmp_path), normal=["cat"], smooth=0.0, alarms=0.0)
    with pytest.raises(ef.EveryformerError, match="found when training ends"):
        task.predict(Said(), [])
    task.settle(Said())
    inputs, labels = task.batch("valid", range(task.size("valid"))).values()
    assert task.state["limit"] == pytest.approx(inputs.mean(1).amax((1, 2))[labels == 0].max().item(), rel=1e-5)
    paths = [tmp_path / "test" / "cat" / "0.png", tmp_path / "test" / "dog" / "1.png"]
    task.state["limit"] = sum(each["score"] for each in task.predict(Said(), paths)) / 2
    cat, dog = task.predict(Said(), paths)
    assert not cat["mask"].any()
    assert cat["text"].startswith("normal")
    assert np.array_equal(dog["mask"], dog["heat"] > task.state["limit"])
    assert dog["text"].startswith("anomaly")
    task.write(paths, [cat, dog], tmp_path)
    told = json.loads((tmp_path / "masks.json").read_text())
    assert [(each["image_id"], each["area"]) for each in told["annotations"]] == [(2, int(dog["mask"].sum()))]
    assert told["categories"] == [{"id": 1, "name": "anomaly"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"has the classes cat, dog; say which are normal: data.normal=\[cat\]"),
        ({"normal": ["cow"]}, "unknown class in .* 'cow'"),
        ({"normal": ["cat", "dog"]}, r"\('test'\) is normal; give pictures of both kinds"),
    ],
)
def test_data_that_tells_nothing_is_refused(tmp_path, options, message):
    with pytest.raises(ef.EveryformerError, match=message):
        find_task("anomaly-detection").open(path=str(pictures(tmp_path)), **options)


def test_a_model_of_classes_is_refused(tmp_path):
    tiny = TINY["anomaly-detection"](tmp_path)
    model = ef.create("vit", classes=2, image=16, patch=4, width=16, depth=1, heads=2, seed=0)
    with pytest.raises(ef.DoesNotFit, match="expected a score for each pixel"):
        tiny.task.evaluate(model, "test")
