"""Relations: triples by hand, what is written and read, pairs that are cut out, and relations of what is not there."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.boxes import regions
from everyformer.data import find_task
from everyformer.data.tasks.pairs import pairs_of, recalled
from everyformer.data.tasks.relations import Triples, hits, true
from everyformer.objectives import Classification, ExpertGroups
from support.tiny_data import TINY, related

HERE, THERE = [0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]


def triples(*rows):
    names, boxes, scores = zip(*rows, strict=True)
    return Triples(torch.tensor(names), torch.tensor(boxes), torch.tensor(scores))


def test_triples_by_hand():
    """One is said with both boxes, one with a box elsewhere, one by a wrong name."""
    truth = triples(((0, 1, 2), (HERE, THERE), 1.0), ((1, 0, 3), (THERE, HERE), 1.0))
    said = [((0, 1, 2), (HERE, THERE), 0.5), ((1, 0, 3), (THERE, THERE), 0.9), ((1, 0, 4), (THERE, HERE), 0.8)]
    assert hits(triples(*said), truth) == {"recall@10": 1, "recall@50": 1, "triples": 1}
    wrong = [((9, 9, 9), (HERE, HERE), 0.9)] * 10
    assert hits(triples(*said, *wrong), truth) == {"recall@10": 0, "recall@50": 1, "triples": 1}
    assert hits(triples(*wrong[:1]), Triples(torch.empty(0, 3), torch.empty(0, 2, 4), torch.empty(0))) == {}


def test_relations_are_read_beside_boxes_and_move_with_their_things(tmp_path):
    tiny = TINY["relations"](tmp_path)
    assert (tiny.task.relations, tiny.task.facts["relations"]) == (["beside", "far from"], 2)
    labels = tiny.task.batch("test", range(15))["labels"]
    assert labels.shape == (15, 2, 7)
    assert (labels[[0, 1], :, 5:] == -100).all()
    assert labels[2, :, 5:].tolist() == [[-100, 0], [1, -100]]
    found = true(labels[2])
    assert found.names.tolist() == [[0, 1, 0], [1, 0, 1]]
    moved = torch.cat([tiny.task.batch("train", range(12), train=True, seed=seed)["labels"] for seed in range(8)])
    lost = moved[..., 0] == -100
    assert (moved[..., 5:][lost[:, :, None] | lost[:, None]] == -100).all()
    assert (lost.any(1) & ~lost.all(1)).any()


def test_relations_of_raw_pictures_are_those_of_the_score_and_are_written(tmp_path):
    tiny = TINY["relations"](tmp_path / "data")
    task, numbers = tiny.task, {"dark": 0, "bright": 1}
    answers = task.predict(tiny.model, tiny.raw)
    labels, found = task.batch("test", range(9))["labels"], 0
    for answer, own in zip(answers, labels, strict=True):
        rows = []
        for each in answer["relations"]:
            ends = [each[end] for end in ("subject", "object")]
            boxes = [np.array([x, y, x + w, y + h]) / (24, 16, 24, 16) for x, y, w, h in (end["box"] for end in ends)]
            names = (*(numbers[end["label"]] for end in ends), task.relations.index(each["relation"]))
            rows.append((names, [box.tolist() for box in boxes], each["score"]))
        found += hits(triples(*rows), true(own)).get("triples", 0)
    count = sum(len(true(own).names) for own in labels)
    task.parts["test"] = tuple(part[:9] for part in task.parts["test"])
    assert task.evaluate(tiny.model, "test").metrics["triples"] == pytest.approx(found / count)
    assert task.write(tiny.raw[:1], answers[:1], tmp_path) == ["relations.json", "0_overlay.png"]
    assert json.loads((tmp_path / "relations.json").read_text())[0]["relations"] == answers[0]["relations"]
    assert np.asarray(Image.open(tmp_path / "0_overlay.png")).shape == (16, 24, 3)


def test_the_baseline_says_what_is_commonest(tmp_path):
    """Both triples of all rooms, at mean places; and no model that says other numbers."""
    tiny = TINY["relations"](tmp_path)
    assert tiny.task.baseline("test")["name"] == "the commonest triples"
    assert 0 <= tiny.task.baseline("test")["recall@10"] <= 1
    with pytest.raises(ef.DoesNotFit, match="2 relations of things of 2 classes take 17"):
        tiny.task.told(torch.zeros(4, 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object_id": 999}, "the ids of two boxes of one image"),
        ({"relation": None}, "and relation, a name|relation is one of"),
    ],
)
def test_relations_of_what_is_not_there_are_refused(tmp_path, change, message):
    path = related(tmp_path) / "test" / "boxes.json"
    found = json.loads(path.read_text())
    found["relations"][0].update(change)
    path.write_text(json.dumps(found))
    with pytest.raises(ef.BadInput, match=message):
        find_task("relations").open(path=str(tmp_path))
    for part in ("train", "test"):
        other = tmp_path / part / "boxes.json"
        other.write_text(json.dumps({**json.loads(other.read_text()), "relations": []}))
    with pytest.raises(ef.BadInput, match="have a relation; give data in which some have"):
        find_task("relations").open(path=str(tmp_path))


def test_pairs_are_cut_out_of_picture_and_depths(tmp_path):
    task = TINY["relations-of-things"](tmp_path).task
    assert task.size("test") == 10
    batch = task.batch("test", [0, 1])
    assert batch["labels"].tolist() == [1, 2]
    assert batch["kinds"].tolist() == [[0, 1], [1, 0]]
    assert torch.equal(batch["boxes"][0], batch["boxes"][1].flip(0))
    own = task.parts["test"][1][2]
    first = task.prepare([tmp_path / "test" / "2.png"])["inputs"]
    corner = torch.cat((own[:1, 1:3] - own[:1, 3:5] / 2, own[:1, 1:3] + own[:1, 3:5] / 2), 1)
    torch.testing.assert_close(batch["inputs"][0, 0], regions(first, corner[:, None], 4)[0, 0])
    torch.testing.assert_close(batch["depth"][0], torch.full((2, 1, 4, 4), (1000 + 42) / task.state["far"]))


def test_pairs_and_the_surest_relations_by_hand():
    labels = torch.tensor([[0.0, 0, 0, 0, 0, -100, 4], [1, 0, 0, 0, 0, -100, -100]])
    assert pairs_of(3, labels).tolist() == [[3, 0, 1, 5], [3, 1, 0, 0]]
    assert pairs_of(3, labels[:1, :6]).shape == (0, 4)
    where, wanted = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 0, 1, 1])
    said, scores = torch.tensor([2, 1, 1, 2]), torch.tensor([0.1, 0.9, 0.5, 0.9])
    assert recalled(where, wanted, said, scores, 3) == pytest.approx(2 / 3)
    assert recalled(where, wanted, said, scores, 2) == pytest.approx(1 / 3)


def test_relations_of_raw_files_are_those_of_the_score(tmp_path):
    tiny = TINY["relations-of-things"](tmp_path / "data")
    (answer,) = tiny.task.predict(tiny.model, tiny.raw)
    assert len(answer["pictures"]) == 15
    said = {}
    for row, each in enumerate(answer["pictures"]):
        for told in each["relations"]:
            said[row, told["subject"]["label"]] = told["relation"]
    right = 0
    for row, subject, _, number in tiny.task.pairs["test"].tolist():
        kind = tiny.task.classes[int(tiny.task.parts["test"][1][row, subject, 0])]
        right += said.get((row, kind), "nothing") == tiny.task.names[number]
    assert tiny.task.evaluate(tiny.model, "test").metrics["accuracy"] == pytest.approx(right / 10)
    files = tiny.task.write(tiny.raw, [answer], tmp_path)
    assert files[0] == "relations.json"
    assert len(files) == 16
    assert Image.open(tmp_path / files[1]).size == (24, 16)


def test_experts_know_how_often_each_relation_is_there_and_windows_are_refused(tmp_path):
    task = TINY["relations-of-things"](tmp_path).task
    counts = tuple(task.pairs["train"][:, 3].bincount(minlength=3)[1:].tolist())
    assert task.objective(of="experts") == ef.spec(ExpertGroups, counts=counts)
    assert task.objective(smoothing=0.1) == ef.spec(Classification, smoothing=0.1)
    with pytest.raises(ef.UnknownName, match="objective.of"):
        task.objective(of="expert")
    with pytest.raises(ef.BadInput, match="things are cut out of whole pictures"):
        find_task("relations-of-things").open(path=str(tmp_path), flip=True)
    with pytest.raises(ef.DoesNotFit, match="there are 2 relations and nothing; build the design with 3"):
        task.chosen(torch.zeros(1, 5))
