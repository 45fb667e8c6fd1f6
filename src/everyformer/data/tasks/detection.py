"""Detection: what things a picture shows, and the box of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.boxes import centred, corners
from everyformer.data import pictures
from everyformer.data.coco import as_coco, read_coco
from everyformer.data.moves import Moves
from everyformer.data.pictured import PictureOptions, PictureTask, save, sorted_examples
from everyformer.data.precision import Precision
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.task import Digest, Score, affordable, task, used, write
from everyformer.errors import BadInput, DoesNotFit
from everyformer.objectives import Boxes
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

LEFT = 0.3
"""A box of which a window shows a smaller part than this is left out of it."""


@dataclass(kw_only=True)
class Options(PictureOptions):
    """The `data` section of detection: COCO's format beside the pictures, or a table with a column of boxes (left, top,
    right and bottom in pixels) and one of their kinds.
    """

    kinds: str | None = None
    """The column of the classes of the boxes."""
    classes: list[str] | None = None
    """The names of the classes; found in the training part where not given."""
    surest: float = 0.5
    """In use, only things that are at least as sure as this are told."""


@task
class Detection(PictureTask):
    """Pictures into boxes with classes."""

    name: ClassVar[str] = "detection"
    metric: ClassVar[str] = "ap"
    targets: ClassVar[tuple[str, ...]] = ("boxes", "bbox", "bboxes")
    Options: ClassVar[type[Where]] = Options

    @classmethod
    def rows(cls, options: Any) -> dict[str, Rows]:
        """The rows of each part that the data has."""
        return read_rows(options, read_coco)

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Find the classes."""
        column = self._kinds(rows["train"])
        given = self.options.classes or rows["train"].classes.get(column)
        if given is None:
            given = sorted({str(kind) for kinds in rows["train"].column(column) for kind in kinds})
        if not given:
            raise BadInput(f"{rows['train'].where} has no box; give data that shows things, or data.classes=[...]")
        self.state["classes"] = list(given)
        self.facts["classes"] = len(given)

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """What stands on each picture."""
        return self.things_of(rows, sizes)

    def things_of(self, rows: Rows, sizes: Sequence[tuple[int, int]]) -> Float[Tensor, "B T 5"]:
        """Class, centre and size of each box as shares of the picture's; class -100 fills up."""
        boxes, kinds = rows.column(rows.pick(self.options.target, self.targets, "target")), self._kinds(rows)
        made = []
        for row, (own, named, (height, width)) in enumerate(zip(boxes, rows.column(kinds), sizes, strict=True)):
            ends = torch.tensor(np.asarray(own, dtype=np.float32)).reshape(-1, 4)
            if len(ends) != len(named) or (ends[:, 2:] < ends[:, :2]).any():
                raise BadInput(
                    f"row {row} of {rows.where} has {len(ends)} boxes and {len(named)} kinds, or a box that ends before "
                    "it begins; give one kind a box, and boxes as left, top, right, bottom"
                )
            shares = ends / torch.tensor([width, height, width, height])
            made.append(torch.cat((self._numbers(named, f"row {row} of {rows.where}")[:, None], centred(shares)), 1))
        most = max(1, *(len(each) for each in made))
        return torch.stack([torch.cat((each, _nothing(most - len(each)))) for each in made])

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """The boxes in the windows; what is mostly outside is left out."""
        boxes, left = moves.boxes(corners(targets[..., 1:]))
        kinds = torch.where(left < LEFT, float(IGNORED), targets[..., 0])
        return torch.cat((kinds[..., None], centred(boxes)), -1)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.state["classes"]
        return names

    def objective(self, **options: Any) -> Spec[Any]:
        """The loss of a set of boxes."""
        return spec(Boxes, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """COCO's average precision over all thresholds, at 0.5 and at 0.75."""
        digest, precision, shown = Digest(), Precision(), []
        every = max(1, self.size(split) // 8)
        for indices, tensors, given in self.answers(model, split, affordable(batch, 2**16)):
            if given.shape[-1] != len(self.classes) + 5:
                raise DoesNotFit(
                    f"the model answers with {given.shape[-1] - 5} classes and the data has {len(self.classes)}; "
                    f"build the design with classes={len(self.classes)}",
                    "head",
                )
            for row, index in enumerate(indices):
                labels = tensors[LABELS][row]
                real = labels[labels[:, 0] != IGNORED]
                digest.add(self.parts[split][0][index], real)
                truth = corners(real[:, 1:]), real[:, 0].long()
                said = told(given[row])
                precision.add(*said, *truth)
                if index % every == 0:
                    alone = Precision()
                    alone.add(*said, *truth)
                    sure = said[2] >= self.options.surest
                    pairs = (truth, (said[0][sure], said[1][sure]))
                    drawn = [outlined(self.shown(split, index), *each) for each in pairs]
                    shown.append({"input": self.strip(split, index, *drawn), "ap": alone.figures()["ap"]})
        return Score(precision.figures(), self.size(split), str(digest), sorted_examples(shown, "ap"))

    def baseline(self, split: str) -> dict[str, Any]:
        """The average precision of always answering with the mean box of each class of the training part."""
        train = self.parts["train"][1].flatten(0, 1)
        numbers = range(len(self.classes))
        own = [train[train[:, 0] == number, 1:] for number in numbers]
        kinds = torch.tensor([number for number in numbers if len(own[number])])
        boxes = corners(torch.stack([own[number].mean(0) for number in kinds]))
        often = torch.tensor([float(len(own[number])) for number in kinds])
        precision = Precision()
        for labels in self.parts[split][1]:
            real = labels[labels[:, 0] != IGNORED]
            precision.add(boxes, kinds, often, corners(real[:, 1:]), real[:, 0].long())
        return {"name": "the mean box of each class", self.metric: precision.figures()[self.metric]}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `things` in each raw picture, the surest first: label, score and box (left, top, width, height in pixels
        of the picture); and a `text` that names them.
        """
        answers = []
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                tensors = {name: each.to(device) for name, each in self.prepare([picture]).items()}
                boxes, labels, scores = self.found(model, tensors, decoding or {})
                boxes = boxes * torch.tensor([picture.width, picture.height] * 2)
                things = [
                    {
                        "label": labels[i], "score": float(scores[i]),
                        "box": torch.cat((boxes[i, :2], boxes[i, 2:] - boxes[i, :2])).tolist(),
                    }
                    for i in scores.argsort(descending=True).tolist() if scores[i] >= self.options.surest
                ]  # fmt: skip
                text = ", ".join(f"{each['label']} {each['score']:.2f}" for each in things)
                answers.append({"text": text or "nothing", "things": things})
        return answers

    def found(
        self, model: nn.Module, tensors: Mapping[str, Tensor], decoding: Mapping[str, Any]
    ) -> tuple[Float[Tensor, "N 4"], list[str], Float[Tensor, " N"]]:
        """The boxes (corners, as shares), labels and scores of all that a model says of one picture that is prepared."""
        boxes, kinds, scores = told(model(**tensors)[0].float().cpu())
        return boxes, [self.classes[kind] for kind in kinds.tolist()], scores

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """detections.json in COCO's format with scores, and NAME_overlay.png to look at; gives the files."""
        found = [pictures.decode(given) for given in inputs]
        names = pictures.names(inputs)
        sizes = [(each.height, each.width) for each in found]
        classes = self.labels(answers)
        boxes_of = as_coco(pictures.files(inputs), sizes, answers, classes)
        write(folder / "detections.json", json.dumps(boxes_of, indent=1) + "\n")
        overlays = {}
        for name, picture, answer in zip(names, found, answers, strict=True):
            boxes = torch.tensor([each["box"] for each in answer["things"]]).reshape(-1, 4)
            ends = torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
            ends = ends / torch.tensor([picture.width, picture.height] * 2)
            labels = [each["label"] for each in answer["things"]]
            kinds = torch.tensor([classes.index(each) for each in labels], dtype=torch.long)
            drawn = outlined(np.asarray(picture.convert("RGB")), ends, kinds)
            overlays[f"{name}_overlay"] = labelled(drawn, ends, labels)
        return ["detections.json", *save(folder, overlays)]

    def labels(self, answers: Sequence[Mapping[str, Any]]) -> list[str]:
        """The labels that things in these answers can have."""
        return self.classes

    def _kinds(self, rows: Rows) -> str:
        return rows.pick(self.options.kinds, ("kinds", "labels", "classes", "categories"), "kinds")

    def _numbers(self, named: Sequence[Any], where: str) -> Float[Tensor, " T"]:
        """Numbers of classes; a class that is not known is refused."""
        numbers = {name: i for i, name in enumerate(self.classes)}
        found = [kind if isinstance(kind, (int, np.integer)) else numbers.get(str(kind), -1) for kind in named]
        for kind, number in zip(named, found, strict=True):
            if not 0 <= number < len(numbers):
                raise BadInput(f"{where} has the class {kind!r}; expected one of {', '.join(numbers)}")
        return torch.tensor(found, dtype=torch.float)


def told(said: Float[Tensor, "N E"]) -> tuple[Float[Tensor, "N 4"], Int[Tensor, " N"], Float[Tensor, " N"]]:
    """The boxes (corners), classes and scores of the answers of all queries; each says its likeliest class."""
    scores, kinds = said[:, :-4].softmax(-1)[:, :-1].max(-1)
    return corners(said[:, -4:]), kinds, scores


def outlined(picture: np.ndarray, boxes: Float[Tensor, "N 4"], kinds: Int[Tensor, " N"]) -> np.ndarray:
    """A picture (Y, X, 3) with boxes drawn, in the colours of their classes."""
    drawn = picture.copy()
    height, width = picture.shape[:2]
    colours = pictures.coloured(kinds.numpy() + 1)
    for (left, top, right, bottom), colour in zip(boxes.clamp(0, 1).tolist(), colours, strict=True):
        x, y = int(left * (width - 1)), int(top * (height - 1))
        to_x, to_y = int(right * (width - 1)), int(bottom * (height - 1))
        drawn[[y, to_y], x : to_x + 1] = colour
        drawn[y : to_y + 1, [x, to_x]] = colour
    return drawn


def labelled(picture: np.ndarray, boxes: Float[Tensor, "N 4"], labels: Sequence[str]) -> np.ndarray:
    """A picture (Y, X, 3) with what is said of each box written at its top."""
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    for (left, top, _, _), label in zip(boxes.clamp(0, 1).tolist(), labels, strict=True):
        at = (left * drawn.width + 2, top * drawn.height + 1)
        pen.text(at, label, fill=(255, 255, 255), stroke_fill=(0, 0, 0), stroke_width=1)
    return np.asarray(drawn)


def _nothing(count: int) -> Float[Tensor, "T 5"]:
    return torch.tensor([float(IGNORED), 0, 0, 0, 0]).expand(count, -1)
