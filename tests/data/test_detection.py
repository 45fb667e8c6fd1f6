"""Detection: average precision by hand, things matched with queries, boxes that move with their picture, COCO's format."""

import json
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.boxes import centred, corners, overlaps
from everyformer.data import find_task
from everyformer.data.moves import Moves
from everyformer.data.precision import Precision
from everyformer.objectives.sets import matched
from support.tiny_data import TINY, boxed

UNIT = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
BOTH = torch.tensor([0, 0])


def precision(*pictures):
    found = Precision()
    for boxes, scores, truth in pictures:
        kinds = torch.zeros(len(boxes), dtype=torch.long), torch.zeros(len(truth), dtype=torch.long)
        found.add(boxes.view(-1, 4), kinds[0], torch.tensor(scores), truth.view(-1, 4), kinds[1])
    return found.figures()


def test_average_precision_by_hand():
    """Recall of 1/2 is reached at 51 of the 101 points that count."""
    assert precision((UNIT, [0.9, 0.8], UNIT))["ap"] == 1
    assert precision((UNIT[:1], [0.9], UNIT))["ap"] == pytest.approx(51 / 101)
    wrong = UNIT + 100
    assert precision((torch.cat((wrong[:1], UNIT[:1])), [0.9, 0.8], UNIT))["ap"] == pytest.approx(51 / 101 / 2)
    assert precision((torch.cat((UNIT[:1], wrong[:1])), [0.9, 0.8], UNIT[:1]))["ap"] == 1
    assert precision((wrong, [0.9, 0.8], UNIT))["ap"] == 0
    # the second answer about the same thing is wrong, whatever the picture it stands in
    twice = UNIT[[0, 0]]
    assert precision((twice, [0.9, 0.8], UNIT[:1]), (UNIT[1:], [0.7], UNIT[1:]))["ap"] == pytest.approx(
        (51 * 1 + 50 * 2 / 3) / 101
    )


def test_the_thresholds_of_overlap():
    """A box that shares 0.6 of the union counts at 0.5, 0.55 and 0.6; a class that is answered and not there does not."""
    near = torch.tensor([[0.0, 0.0, 10.0, 6.0]])
    figures = precision((near, [0.5], UNIT[:1]))
    assert (figures["ap"], figures["ap50"], figures["ap75"]) == (pytest.approx(0.3), 1.0, 0.0)
    found = Precision()
    found.add(UNIT, torch.tensor([0, 1]), torch.tensor([0.5, 0.9]), UNIT[:1], torch.tensor([0]))
    assert found.figures()["ap"] == 1


def test_overlaps_by_hand():
    """Of two boxes of area 4 with 1 in common, and of two that do not touch in a box of 30 around both."""
    share, beyond = overlaps(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3]))
    assert (share.item(), beyond.item()) == (pytest.approx(1 / 7), pytest.approx(2 / 9))
    share, beyond = overlaps(torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 10]))
    assert (share.item(), beyond.item()) == (0, pytest.approx(19 / 30))
    boxes = torch.rand(5, 4)
    torch.testing.assert_close(centred(corners(boxes)), boxes)


def test_a_matching_is_the_cheapest_of_all():
    """Against every way to match; what is not there is matched with nothing, and what finds no query left as well."""
    cost = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    there = torch.ones(6, 3, dtype=torch.bool)
    there[1, 1] = there[2] = False
    found = matched(cost, there)
    assert torch.equal(found >= 0, there)
    for row in (0, 3, 4, 5):
        wanted = min(permutations(range(5), 3), key=lambda ways: sum(cost[row, q, t] for t, q in enumerate(ways)))
        assert found[row].tolist() == list(wanted)
    assert (matched(cost[:1, :2], there[:1]) < 0).sum() == 1


def test_boxes_move_with_their_picture():
    """A bright box in the window is where the moved box says; the part that is still there is told."""
    pictures = torch.zeros(30, 1, 40, 60)
    pictures[:, :, 10:22, 15:33] = 1
    box = torch.tensor([15 / 60, 10 / 40, 33 / 60, 22 / 40]).expand(30, 1, 4)
    moves = Moves(range(30), 1, size=(32, 32), of=(40, 60), zoom=(0.8, 1.5), flip=True)
    cells, (found, left) = moves.pictures(pictures)[:, 0], moves.boxes(box)
    assert (left < 0.99).any()
    assert (left > 0.99).any()
    for cell, (ends,), (part,) in zip(cells, found * 32, left):
        seen = (cell > 0.5).nonzero()
        if part > 0.1:
            top, side = seen.min(0).values.tolist()
            bottom, end = (seen.max(0).values + 1).tolist()
            assert (ends - torch.tensor([side, top, end, bottom])).abs().max() <= 1.01


def test_boxes_are_read_and_answers_written_in_one_format(tmp_path):
    tiny = TINY["detection"](tmp_path / "data")
    assert tiny.task.classes == ["dark", "bright"]
    first = json.loads((tmp_path / "data" / "train" / "boxes.json").read_text())["annotations"][0]
    left, top, width, height = first["bbox"]
    labels = tiny.task.batch("train", [first["image_id"] - 40])["labels"][0]
    wanted = torch.tensor([0, (left + width / 2) / 24, (top + height / 2) / 16, width / 24, height / 16])
    torch.testing.assert_close(labels[0], wanted)
    assert (labels[1:, 0] == -100).all()

    answers = tiny.task.predict(tiny.model, tiny.raw[:3])
    assert tiny.task.write(tiny.raw[:3], answers, tmp_path) == [
        "detections.json", "0_overlay.png", "1_overlay.png", "2_overlay.png",
    ]  # fmt: skip
    written = json.loads((tmp_path / "detections.json").read_text())
    assert [each["file_name"] for each in written["images"]] == ["0.png", "1.png", "2.png"]
    assert len(written["annotations"]) == sum(len(each["things"]) for each in answers) > 0
    assert np.asarray(Image.open(tmp_path / "0_overlay.png")).shape == (16, 24, 3)
    (tmp_path / "data" / "train" / "boxes.json").write_text(json.dumps({**written, "images": written["images"][:1]}))
    with pytest.raises(ef.BadInput, match="has a box of an image or a category that it does not list"):
        find_task("detection").open(path=str(tmp_path / "data"))


def test_boxes_that_make_no_sense_are_refused(tmp_path):
    path = boxed(tmp_path) / "train" / "boxes.json"
    found = json.loads(path.read_text())
    found["annotations"][0]["bbox"][2] = -3
    path.write_text(json.dumps(found))
    with pytest.raises(ef.BadInput, match=r"row 1 of .* a box that ends before it begins"):
        find_task("detection").open(path=str(tmp_path))
    with pytest.raises(ef.BadInput, match=r"has the class 'dark'; expected one of bright"):
        find_task("detection").open(path=str(boxed(tmp_path / "other")), classes=["bright"])
    path.write_text("{}")
    with pytest.raises(ef.EveryformerError, match="has no images, annotations, categories"):
        find_task("detection").open(path=str(tmp_path))
