"""Object discovery: what parts have in common with things by hand, and parts that are written."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.data import find_task
from everyformer.data.tasks.objects import agreement, means
from everyformer.objectives import RebuiltCells, SelfTaughtSlots
from support.tiny_data import TINY, masked

THINGS = torch.tensor([[-1, 0, 0, 0], [-1, 1, 1, -1]])


def test_agreement_by_hand():
    """One thing is a part but for a pixel that is nobody's, the other one is half of one; names of parts do not matter."""
    parts = torch.tensor([[7, 3, 3, 3], [3, 5, 5, 5]])
    found = agreement(parts, THINGS)
    assert found["mbo"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert found["ari"] == 1
    assert agreement(torch.zeros_like(parts), THINGS) == {"mbo": pytest.approx((3 / 8 + 2 / 8) / 2), "ari": 0}
    # of the ten pairs of pixels of things 4 are together in truth and 5 in these parts, 2 in both
    others = torch.tensor([[0, 2, 2, 4], [0, 2, 4, 0]])
    assert agreement(others, THINGS)["ari"] == pytest.approx((1 - 4 * 4 / 10) / ((4 + 4) / 2 - 4 * 4 / 10))
    assert agreement(parts, torch.full_like(THINGS, -1)) == {}
    assert "ari" not in agreement(parts, THINGS.clamp(max=0))


def test_a_mean_is_over_those_that_have_the_figure():
    assert means([{"mbo": 1.0}, {}, {"mbo": 0.5, "ari": 0.2}]) == {"mbo": 0.75, "ari": 0.2}


def test_nothing_is_no_thing_and_a_window_beyond_the_border_neither(tmp_path):
    tiny = TINY["object-discovery"](tmp_path)
    labels = tiny.task.batch("test", range(10))["labels"]
    assert labels.unique().tolist() == [-1, 0]
    assert (labels == 0).sum((1, 2)).max() == 25


def test_a_teacher_asks_for_its_masks_too(tmp_path):
    tiny = TINY["object-discovery"](tmp_path)
    assert tiny.task.objective() == ef.spec(RebuiltCells)
    assert tiny.task.objective(teacher="run", share=0.1) == ef.spec(SelfTaughtSlots, teacher="run", share=0.1)


def test_parts_of_raw_pictures_are_those_of_the_score_and_are_written(tmp_path):
    tiny = TINY["object-discovery"](tmp_path / "data")
    answers = tiny.task.predict(tiny.model, tiny.raw)
    truth = tiny.task.batch("test", range(10))["labels"]
    found = [agreement(torch.tensor(each["mask"]), own) for each, own in zip(answers, truth, strict=True)]
    assert means(found) == pytest.approx(tiny.task.evaluate(tiny.model, "test").metrics)
    assert tiny.task.write(tiny.raw[:1], answers[:1], tmp_path) == ["masks.json", "0.png", "0_overlay.png"]
    told = json.loads((tmp_path / "masks.json").read_text())
    assert sum(each["area"] for each in told["annotations"]) == 144
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0.png")), answers[0]["mask"])


def test_windows_and_maps_that_show_nothing_are_refused(tmp_path):
    with pytest.raises(ef.BadInput, match="the parts of one window are not those of the next"):
        find_task("object-discovery").open(path=str(masked(tmp_path, void=0)), tile=8)
    for path in tmp_path.glob("train/masks/*.png"):
        Image.fromarray(np.zeros((10, 12), dtype=np.uint8)).save(path)
    with pytest.raises(ef.BadInput, match="show no thing; 0 is none"):
        find_task("object-discovery").open(path=str(tmp_path))
