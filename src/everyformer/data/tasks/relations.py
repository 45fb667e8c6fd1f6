"""Relations: what things a picture shows, and what they are to each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.boxes import corners, overlaps
from everyformer.data import pictures
from everyformer.data.moves import Moves
from everyformer.data.pictured import save, sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, affordable, task, used, write
from everyformer.data.tasks.detection import Detection, outlined
from everyformer.data.tasks.detection import Options as Detected
from everyformer.errors import BadInput, DoesNotFit
from everyformer.objectives import Interactions
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

RECALLED = (10, 50)
"""How many triples of a picture count for the recall, the surest first."""
SHARED = 0.5
"""Which share of the union a box has in common with a thing that it stands for."""


@dataclass(kw_only=True)
class Options(Detected):
    """The `data` section of relations: that of detection, and for each picture a list of {subject, object, relation}, the
    places of two of its boxes and a name; in COCO's format `relations` with subject_id, object_id and relation. Do not set
    `flip` where left and right are told apart.
    """

    related: str | None = None
    """The column of the relations."""
    relations: list[str] | None = None
    """Their names, from frequent to rare; found in the training part where not given."""


@dataclass(frozen=True)
class Triples:
    """Triples of a picture."""

    names: Int[Tensor, "K 3"]
    """The class of the subject, that of the object, and what that is to this."""
    boxes: Float[Tensor, "K 2 4"]
    """Left, top, right and bottom of both."""
    scores: Float[Tensor, " K"]

    def surest(self, count: int) -> Triples:
        """So many, the surest first."""
        best = self.scores.argsort(descending=True, stable=True)[:count]
        return Triples(self.names[best], self.boxes[best], self.scores[best])


@task
class Relations(Detection):
    """Pictures into triples: two things with their boxes, and what one is to the other."""

    name: ClassVar[str] = "relations"
    metric: ClassVar[str] = "recall@10"
    watched: ClassVar[tuple[str, str]] = ("recall@10", "max")
    Options: ClassVar[type[Where]] = Options

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Find the classes and the relations."""
        super().fit(rows)
        train = rows["train"]
        column = self._related(train)
        counts = Counter(str(each["relation"]) for told in train.column(column) for each in told)
        if not counts:
            raise BadInput(f"no things of {train.where} have a relation; give data in which some have")
        given = self.options.relations or train.classes.get(column) or [name for name, _ in counts.most_common()]
        self.state["relations"] = list(given)
        self.facts["relations"] = len(given)

    @property
    def relations(self) -> list[str]:
        """The names of the relations."""
        names: list[str] = self.state["relations"]
        return names

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """(B, T, 5 + T): of each thing class and box, and what it is to each of the T things, -100 for nothing."""
        things = self.things_of(rows, sizes)
        to = torch.full((*things.shape[:2], things.shape[1]), float(IGNORED))
        numbers = {name: i for i, name in enumerate(self.relations)}
        for row, told in enumerate(rows.column(self._related(rows))):
            count = int((things[row, :, 0] != IGNORED).sum())
            for each in told:
                ends, name = (each.get("subject"), each.get("object")), str(each.get("relation"))
                if name not in numbers or not all(isinstance(end, int) and 0 <= end < count for end in ends):
                    raise BadInput(
                        f"row {row} of {rows.where} has the relation {dict(each)} and {count} boxes; subject and object are "
                        f"places of boxes from 0 on, and relation is one of {', '.join(numbers)}"
                    )
                to[row, ends[0], ends[1]] = numbers[name]
        return torch.cat((things, to), -1)

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """The boxes in the windows; what is mostly outside is left out, and what it is to others with it."""
        things, to = super().moved(moves, targets[..., :5]), targets[..., 5:]
        lost = things[..., 0] == IGNORED
        return torch.cat((things, to.masked_fill(lost[:, :, None] | lost[:, None], IGNORED)), -1)

    def objective(self, **options: Any) -> Spec[Any]:
        """The loss of a set of things and of what they are to each other."""
        return spec(Interactions, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Of all triples `recall@K`, the share that is among the K surest of its picture with both boxes at an IoU of a half;
        and `triples`, the share of which all three names are right in the answer whose boxes are nearest, wherever these are.
        """
        digest, shown, count = Digest(), [], 0
        sums, every = Counter[str](), max(1, self.size(split) // 8)
        for indices, tensors, given in self.answers(model, split, affordable(batch, 2**16)):
            for row, index in enumerate(indices):
                labels, said = tensors[LABELS][row], self.told(given[row])
                digest.add(self.parts[split][0][index], labels[labels[:, 0] != IGNORED])
                truth = true(labels)
                own = hits(said, truth)
                sums.update(own)
                count += len(truth.names)
                if index % every == 0 and len(truth.names):
                    pairs = (truth, said.surest(len(truth.names)))
                    drawn = [self.drawn(self.shown(split, index), each) for each in pairs]
                    told = {"expected": self.text(truth), "answer": self.text(pairs[1])}
                    recall = own[self.metric] / len(truth.names)
                    shown.append({"input": self.strip(split, index, *drawn), **told, "recall": recall})
        names = [*(f"recall@{most}" for most in RECALLED), "triples"]
        figures = {name: sums[name] / max(count, 1) for name in names}
        return Score(figures, self.size(split), str(digest), sorted_examples(shown, "recall"))

    def baseline(self, split: str) -> dict[str, Any]:
        """The recall of always answering with the commonest triples of the training part, each at the mean of its boxes."""
        places: dict[tuple[int, ...], list[Tensor]] = {}
        for labels in self.parts["train"][1]:
            truth = true(labels)
            for names, boxes in zip(truth.names, truth.boxes, strict=True):
                places.setdefault(tuple(names.tolist()), []).append(boxes)
        best = sorted(places, key=lambda names: -len(places[names]))[: RECALLED[0]]
        boxes = torch.stack([torch.stack(places[names]).mean(0) for names in best])
        said = Triples(torch.tensor(best), boxes, torch.arange(len(best), 0, -1).float())
        truths = [true(labels) for labels in self.parts[split][1]]
        count = sum(len(each.names) for each in truths)
        recall = sum(hits(said, each).get(self.metric, 0) for each in truths) / max(count, 1)
        return {"name": "the commonest triples", self.metric: recall}

    def told(self, answer: Float[Tensor, "N E"]) -> Triples:
        """The likeliest triple that each query says; its score is the product of the shares of all three."""
        sizes = len(self.relations) + 1, len(self.classes) + 5, len(self.classes) + 5
        if answer.shape[-1] != sum(sizes):
            raise DoesNotFit(
                f"the model answers with {answer.shape[-1]} numbers, and {sizes[0] - 1} relations of things of {sizes[1] - 5} "
                f"classes take {sum(sizes)}; build the design with relations={sizes[0] - 1} and classes={sizes[1] - 5}",
                "head",
            )
        relations, *ends = answer.split(sizes, -1)
        scores, names = relations.softmax(-1)[:, :-1].max(-1)
        kinds = []
        for each in ends:
            share, kind = each[:, :-4].softmax(-1)[:, :-1].max(-1)
            scores = scores * share
            kinds.append(kind)
        boxes = torch.stack([corners(each[:, -4:]) for each in ends], 1)
        return Triples(torch.stack((*kinds, names), 1), boxes, scores)

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `relations` in each raw picture, the surest first: the score, the name, and of subject and object label and box
        (left, top, width, height in pixels of the picture); and a `text` that tells them.
        """
        answers = []
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                said = model(**{name: each.to(device) for name, each in self.prepare([picture]).items()})
                triples = self.told(said[0].float().cpu())
                triples = triples.surest(int((triples.scores >= self.options.surest).sum()))
                told = self.plain(triples, (picture.height, picture.width))
                answers.append({"text": self.text(triples) or "nothing", "relations": told})
        return answers

    def plain(self, triples: Triples, size: tuple[int, int]) -> list[dict[str, Any]]:
        """Triples as plain data, the boxes in pixels of a picture of that size."""
        ends = triples.boxes * torch.tensor([size[1], size[0]] * 2)
        boxes = torch.cat((ends[..., :2], ends[..., 2:] - ends[..., :2]), -1).tolist()
        return [
            {
                "subject": {"label": self.classes[a], "box": places[0]}, "relation": self.relations[name],
                "object": {"label": self.classes[b], "box": places[1]}, "score": score,
            }
            for (a, b, name), places, score in zip(triples.names.tolist(), boxes, triples.scores.tolist(), strict=True)
        ]  # fmt: skip

    def text(self, triples: Triples) -> str:
        """Triples in words."""
        names = triples.names.tolist()
        return ", ".join(f"{self.classes[a]} {self.relations[name]} {self.classes[b]}" for a, b, name in names)

    def drawn(self, picture: np.ndarray, triples: Triples) -> np.ndarray:
        """A picture (Y, X, 3) with the things of triples outlined."""
        return outlined(picture, triples.boxes.flatten(0, 1), triples.names[:, :2].flatten())

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """relations.json with the relations in each picture, and NAME_overlay.png with their things; gives the files."""
        told = zip(pictures.files(inputs), answers, strict=True)
        plain = [{"file_name": name, "relations": answer["relations"]} for name, answer in told]
        write(folder / "relations.json", json.dumps(plain, indent=1) + "\n")
        overlays = {}
        for name, given, answer in zip(pictures.names(inputs), inputs, answers, strict=True):
            picture = np.asarray(pictures.decode(given).convert("RGB"))
            things = [each[end] for each in answer["relations"] for end in ("subject", "object")]
            boxes = torch.tensor([each["box"] for each in things]).reshape(-1, 4)
            ends = torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
            kinds = torch.tensor([self.classes.index(each["label"]) for each in things], dtype=torch.long)
            overlays[f"{name}_overlay"] = outlined(picture, ends / torch.tensor([*picture.shape[1::-1]] * 2), kinds)
        return ["relations.json", *save(folder, overlays)]

    def _related(self, rows: Rows) -> str:
        return rows.pick(self.options.related, ("relations", "relationships"), "related")


def true(labels: Float[Tensor, "T E"]) -> Triples:
    """The triples of a picture."""
    subjects, objects = (labels[:, 5:] != IGNORED).nonzero(as_tuple=True)
    names = torch.stack((labels[subjects, 0], labels[objects, 0], labels[subjects, 5 + objects]), 1).long()
    boxes = corners(torch.stack((labels[subjects, 1:5], labels[objects, 1:5]), 1))
    return Triples(names, boxes, torch.ones(len(names)))


def hits(said: Triples, truth: Triples) -> dict[str, int]:
    """How many of the true triples are found in each way that counts."""
    if not len(truth.names) or not len(said.names):
        return {}
    said = said.surest(len(said.names))
    same = (truth.names[:, None] == said.names).all(-1)
    shared = overlaps(truth.boxes[:, None], said.boxes)[0].amin(-1)
    near = same & (shared >= SHARED)
    counts = {f"recall@{most}": int(near[:, :most].any(1).sum()) for most in RECALLED}
    return {**counts, "triples": int(same.gather(1, shared.argmax(1, keepdim=True)).sum())}
