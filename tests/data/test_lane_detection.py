"""Lane detection: lanes that move with their picture, what is written and read again, and lanes that are none."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.data import find_task
from everyformer.data.moves import Moves
from everyformer.data.tasks.roads import lanes_of
from everyformer.data.written_lanes import f1
from support.tiny_data import TINY, roads, table


def opened(folder, **options):
    return find_task("lane-detection").open(path=str(folder), **{"points": 4, "bins": 200, **options})


def test_what_a_batch_teaches_is_what_is_there(tmp_path):
    """Read as an answer would be, after the prompt of the format that was drawn; what fills up has no label."""
    task = opened(roads(tmp_path), formats=["anchor", "parameter"])
    batch = task.batch("test", range(9))
    seen = set()
    for row, (target, labels) in enumerate(zip(batch["target"], batch["labels"], strict=True)):
        form = next(each for each in task.formats if task.writer.prompt(each) == target[:2].tolist())
        seen.add(form.name)
        said = labels[labels != -100].tolist()
        assert labels[0] == -100
        assert target[2 : 1 + len(said)].tolist() == said[:-1]
        lanes = lanes_of(task.parts["test"][1][row])
        assert len(lanes) == 1 + row % 3
        assert f1([task.writer.read(form, said)], [lanes]) == 1
        assert len(said) <= task.longest
    assert seen == {"anchor", "parameter"}
    assert lanes[0][0].tolist() == pytest.approx([0.5, 0])


def test_lanes_move_with_their_picture_and_end_at_its_border(tmp_path):
    task = opened(roads(tmp_path, (40, 60)))
    pictures, lanes = (each[:6] for each in task.parts["train"])
    moves = Moves(range(6), 3, size=(40, 40), of=(40, 60), zoom=(1.0, 1.6), flip=True)
    cells, found = moves.pictures(pictures.float()), task.moved(moves, lanes)
    assert found.shape == lanes.shape
    seen = []
    for cell, row in zip(cells.mean(1), found, strict=True):
        for lane in lanes_of(row):
            assert 0 <= lane.min() <= lane.max() <= 1
            x, y = (lane * 40).astype(int).clip(1, 38)[2:-2].T
            near = torch.stack([cell[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]).amax(0)
            seen.append((near > 100).float().mean().item())
    assert np.mean(seen) > 0.9


def test_lanes_of_raw_pictures_are_those_of_the_score_and_are_written(tmp_path):
    """A model that has learnt nothing writes none, so one that says the truth stands in its place."""
    task = opened(roads(tmp_path / "data"))
    truth = [lanes_of(each) for each in task.parts["test"][1]]
    form, rows = task.formats[0], iter([0, *range(9), *range(9)])

    def tokens(model, cells, chosen, decoding):
        return [task.writer.write(form, truth[next(rows)]) for _ in cells]

    task.tokens = tokens
    raw = [tmp_path / "data" / "images" / f"test{i}.png" for i in range(9)]
    assert task.predict(None, raw[:1])[0]["text"] == "1 lane"
    answers = task.predict(None, raw)
    own = [[np.array(lane) / (16, 12) for lane in each["lanes"]] for each in answers]
    assert f1(own, truth) == 1
    model = ef.create("lane2seq", image=16, patch=4, picture_width=8, picture_depth=1, picture_heads=2, width=8, depth=1,
                      heads=2, bins=200, length=task.facts["length"], seed=0)  # fmt: skip
    score = task.evaluate(model, "test", decoding={})
    assert score.metrics["f1"] == 1
    assert 0 < task.baseline("test")["f1"] < 1
    assert task.write(raw[:1], answers[:1], tmp_path / "data") == ["lanes.jsonl", "test0_overlay.png"]
    assert json.loads((tmp_path / "data" / "lanes.jsonl").read_text())["lanes"] == answers[0]["lanes"]
    assert np.asarray(Image.open(tmp_path / "data" / "test0_overlay.png")).shape == (12, 16, 3)


def test_a_model_writes_no_more_than_it_has_places_for(tmp_path):
    tiny = TINY["lane-detection"](tmp_path)
    cells = tiny.task.batch("test", range(3))["inputs"]
    said = tiny.task.tokens(tiny.model, cells, tiny.task.formats[1], {})
    assert max(len(each) for each in said) <= tiny.task.longest


@pytest.mark.parametrize(
    "lane", [[[1.0, 2.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [[1.0, float("nan")], [1.0, 2.0]], [[1.0], [1.0, 2.0]]]
)
def test_lanes_that_are_none_are_refused(tmp_path, lane):
    roads(tmp_path)
    table(tmp_path / "test.jsonl", [{"image": "images/test0.png", "lanes": [lane]}])
    with pytest.raises(
        ef.BadInput, match=r"row 0 of .* has (a lane of shape .* two points or more|the lane .* is points)"
    ):
        opened(tmp_path)


def test_formats_that_are_none_are_refused(tmp_path):
    with pytest.raises(ef.UnknownName, match="data.formats 'anchors'; did you mean 'anchor'"):
        opened(roads(tmp_path), formats=["anchors"])
    with pytest.raises(ef.BadInput, match="are at least 2"):
        opened(tmp_path, points=1)
