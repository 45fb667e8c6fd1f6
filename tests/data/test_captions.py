"""Dense captioning: captions that are learnt, found boxes with the right words, and answers that are read again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import everyformer as ef
from everyformer.data import find_task, load_task
from everyformer.data.coco import read_boxes
from everyformer.data.tasks.captions import DenseCaptioning
from support.tiny_data import TINY, boxed, captioned


def told(task, split, row):
    """The boxes and the captions of a picture."""
    labels = task.batch(split, [row])["labels"][0]
    real = labels[labels[:, 0] >= 0]
    return ef.boxes.corners(real[:, 1:]), [task.classes[int(kind)] for kind in real[:, 0]]


class Knowing(DenseCaptioning):
    """Finds what is there, and says of the first thing of a picture what is true, of the others `wrong`."""

    wrong = "a cow"

    def found(self, model, tensors, decoding):
        row = next(
            i
            for i, each in enumerate(self.batch("test", range(9))["inputs"])
            if torch.equal(each, tensors["inputs"][0])
        )
        boxes, captions = told(self, "test", row)
        return boxes, [*captions[:1], *([self.wrong] * len(captions[1:]))], torch.ones(len(boxes))


def test_captions_are_classes_and_the_objective_has_their_words(tmp_path):
    task = TINY["dense-captioning"](tmp_path).task
    assert sorted(task.classes) == ["a bright one", "a dark square"]
    texts = task.objective().build().texts
    written = [task.vocabulary.decode([t for t in each.tolist() if t >= 0]).strip() for each in texts]
    assert written == task.classes
    assert texts[:, 0].tolist() == [task.vocabulary.begin] * 2
    assert task.facts["length"] == texts.shape[1] == 5


def test_a_box_counts_with_its_caption_alone(tmp_path):
    """Of three pictures with two squares the second is called a cow: all dark squares, none of the bright ones."""
    tiny = TINY["dense-captioning"](tmp_path / "data")
    task = Knowing.open(path=str(tmp_path / "data"), tokens="words")
    first = {told(task, "test", row)[1][0] for row in range(9) if told(task, "test", row)[1]}
    assert first == {"a dark square"}
    assert task.evaluate(tiny.model, "test", decoding={}).metrics["ap50"] == pytest.approx(0.5)
    assert set(task.evaluate(tiny.model, "test").metrics) == {"boxes"}


def test_answers_are_written_with_their_words_and_read_again(tmp_path):
    tiny = TINY["dense-captioning"](tmp_path / "data")
    tiny.task.save(tmp_path / "task")
    task = load_task(tmp_path / "task")
    answers = task.predict(tiny.model, tiny.raw[:2])
    said = [[thing["label"] for thing in each["things"]] for each in answers]
    assert all(said)
    assert all(each["text"].startswith(labels[0]) for each, labels in zip(answers, said, strict=True))
    files = task.write(tiny.raw[:2], answers, tmp_path)
    assert files == ["detections.json", "0_overlay.png", "1_overlay.png"]
    kept = json.loads((tmp_path / "detections.json").read_text())
    names = {each["id"]: each["name"] for each in kept["categories"]}
    assert [names[each["category_id"]] for each in kept["annotations"]] == [label for each in said for label in each]
    assert read_boxes(tmp_path / "detections.json").column("kinds") == said
    plain = np.asarray(Image.open(tiny.raw[0]).convert("RGB"))
    assert (np.asarray(Image.open(tmp_path / "0_overlay.png")) != plain).any()


def test_data_and_models_without_words_are_refused(tmp_path):
    for path in boxed(tmp_path / "empty").glob("*/boxes.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    with pytest.raises(ef.BadInput, match="has no box; give data that shows things"):
        find_task("dense-captioning").open(path=str(tmp_path / "empty"))
    task = find_task("dense-captioning").open(path=str(captioned(tmp_path / "data")), tokens="words")
    model = ef.create(
        "detr", classes=1, image=16, stem=4, convs=(1,), width=16, depth=1, decoder_depth=1, heads=2, seed=0
    )
    with pytest.raises(ef.DoesNotFit, match="writes nothing of what it finds"):
        task.predict(model, [tmp_path / "data" / "test" / "0.png"])
