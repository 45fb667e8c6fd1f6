"""Relations of given things: what two things of a picture are to each other, whose boxes and classes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.boxes import corners, regions
from everyformer.data import pictures
from everyformer.data.coco import read_boxes
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Examples, Score, data_uri, indices_of, task, used
from everyformer.data.tasks.depth import depth_map
from everyformer.data.tasks.detection import outlined
from everyformer.data.tasks.relations import RECALLED, Relations, Triples
from everyformer.data.tasks.relations import Options as Related
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.objectives import Classification, ExpertGroups
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

DEPTHS = ("depth", "distance")
"""The usual names of the column of the maps of depths."""
NOTHING = "nothing"
"""What two things are to each other that have no relation."""
TOGETHER = 256
"""Pairs that are answered in one pass."""


@dataclass(kw_only=True)
class Options(Related):
    """The `data` section of relations of given things: that of relations, and a map of depths for each picture."""

    depth: str | None = None
    """The column of the maps of depths, pictures or arrays of numbers."""
    cells: int = 8
    """How many cells a side there are of what a thing looks like."""


@task
class RelationsOfThings(Relations):
    """Pairs of things into what the first is to the second; a sample is a pair."""

    name: ClassVar[str] = "relations-of-things"
    metric: ClassVar[str] = "accuracy"
    watched: ClassVar[tuple[str, str]] = ("accuracy", "max")
    Options: ClassVar[type[Where]] = Options
    depths: dict[str, Float[Tensor, "B Y X"]]
    pairs: dict[str, Tensor]
    """Of each part picture, subject, object, and the number of the relation, 0 for nothing (P, 4)."""

    @classmethod
    def read(cls, options: Any) -> Any:
        """Read pictures, things and depths; windows of pictures are refused."""
        if options.crop or options.zoom or options.flip:
            raise BadInput("data.crop, data.zoom and data.flip do nothing here: things are cut out of whole pictures")
        return super().read(options)

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Read the depths and list the pairs."""
        self.depths, self.pairs = {}, {}
        for split, (cells, labels) in self.parts.items():
            column = rows[split].pick(self.options.depth, DEPTHS, "depth")
            size = cells.shape[2], cells.shape[3]
            found = [depth_map(value, size, name) for value, name in rows[split].files(column)]
            self.depths[split] = torch.from_numpy(np.stack(found))
            self.pairs[split] = torch.cat([pairs_of(row, each) for row, each in enumerate(labels)])
        if not len(self.pairs["train"]):
            raise BadInput(f"no picture of {rows['train'].where} has two things; give some that have")
        self.state["far"] = float(self.depths["train"].max())
        counts = self.pairs["train"][:, 3].bincount(minlength=len(self.relations) + 1)
        self.state["counts"] = counts[1:].tolist()
        groups = [len(each) for each in np.array_split(self.relations, min(3, len(self.relations)))]
        self.facts = self.state["facts"] = {
            "kinds": len(self.classes), "classes": len(self.relations) + 1, "groups": groups, "side": self.options.cells,
            "channels": self.options.channels, "depth_channels": 1,
        }  # fmt: skip

    def size(self, split: str) -> int:
        """How many pairs a part has."""
        return len(self.pairs[split]) if split in getattr(self, "pairs", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, 2, C, y, x), `depth` (B, 2, 1, y, x), `boxes` (B, 2, 4), `kinds` (B, 2) and `labels` (B,)."""
        where, *ends, labels = self.pairs[split][indices_of(indices, self.size(split), split)].unbind(1)
        cells, things = self.parts[split]
        where = where.repeat_interleave(2)
        own = things[where, torch.stack(ends, 1).flatten(), :5]
        found = self.cut(self._normal(cells[where]), self.depths[split][where], own)
        return {**{name: each.unflatten(0, (-1, 2)) for name, each in found.items()}, LABELS: labels}

    def cut(
        self, cells: Float[Tensor, "T C Y X"], depths: Float[Tensor, "T Y X"], things: Float[Tensor, "T 5"]
    ) -> dict[str, Tensor]:
        """What is known of things: how each looks in its picture, how far away it is, where and what it is."""
        boxes = corners(things[:, 1:])
        maps = {"inputs": cells, "depth": depths[:, None] / self.state["far"]}
        looks = {name: regions(each, boxes[:, None], self.options.cells)[:, 0] for name, each in maps.items()}
        return {**looks, "boxes": things[:, 1:], "kinds": things[:, 0].long()}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy; `of="experts"`: of experts for relations of like frequency, for heads that have some."""
        of = options.pop("of", "relations")
        if of not in ("relations", "experts"):
            raise UnknownName("objective.of", str(of), ("relations", "experts"))
        if of == "relations":
            return spec(Classification, **options)
        return spec(ExpertGroups, **{"counts": tuple(self.state["counts"]), **options})

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """The share of pairs that are told rightly (`accuracy`), its mean over the relations (`mean_recall`), of all triples
        the share that is among the K surest of its picture (`recall@K`), and cross entropy (nats).
        """
        digest, examples, loss = Digest(), Examples(), 0.0
        said = [torch.empty(self.size(split), dtype=kind) for kind in (torch.long, torch.long, torch.float)]
        for indices, tensors, logits in self.answers(model, split, batch):
            loss += float(F.cross_entropy(logits.double(), tensors[LABELS], reduction="sum"))
            for kept, each in zip(said, self.chosen(logits), strict=True):
                kept[indices] = each
            for row, index in enumerate(indices):
                where, a, b, label = self.pairs[split][index].tolist()
                digest.add(self.parts[split][0][where], self.parts[split][1][where][[a, b], :5], label)
                right = int(said[0][index]) == label
                if examples.wants(right):
                    ends = [self.classes[int(tensors["kinds"][row, end])] for end in (0, 1)]
                    told = (f"{ends[0]} {self.names[number]} {ends[1]}" for number in (label, int(said[0][index])))
                    drawn = outlined(self.shown(split, where), *self.ends(split, where, a, b))
                    shown = data_uri(drawn.transpose(2, 0, 1))
                    examples.add(right, input=shown, **dict(zip(("expected", "answer"), told, strict=True)))
        where, labels = self.pairs[split][:, 0], self.pairs[split][:, 3]
        right = (said[0] == labels).double()
        own = [float(right[labels == number].mean()) for number in labels.unique().tolist() if number]
        figures = {
            "accuracy": float(right.mean()),
            "mean_recall": sum(own) / max(len(own), 1),
            "loss": loss / len(labels),
        }
        figures |= {f"recall@{most}": recalled(where, labels, said[1], said[2], most) for most in RECALLED}
        return Score(figures, len(labels), str(digest), examples.kept)

    def chosen(self, logits: Float[Tensor, "B V"]) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest of all, the likeliest relation, and the share of this."""
        if logits.shape[-1] != len(self.names):
            raise DoesNotFit(
                f"the model answers with {logits.shape[-1]} classes, and there are {len(self.relations)} relations and "
                f"nothing; build the design with {len(self.names)}",
                "head",
            )
        shares = logits.softmax(-1)
        scores, numbers = shares[:, 1:].max(-1)
        return shares.argmax(-1), numbers + 1, scores

    @property
    def names(self) -> list[str]:
        """Nothing, and the names of the relations."""
        return [NOTHING, *self.relations]

    def ends(self, split: str, where: int, subject: int, thing: int) -> tuple[Tensor, Tensor]:
        """The boxes (corners) and the classes of two things of a picture."""
        both = self.parts[split][1][where][[subject, thing]]
        return corners(both[:, 1:5]), both[:, 0].long()

    def baseline(self, split: str) -> dict[str, Any]:
        """The accuracy of always answering with what is commonest in the training part."""
        common = int(self.pairs["train"][:, 3].bincount().argmax())
        accuracy = float((self.pairs[split][:, 3] == common).double().mean())
        return {"name": f"always '{self.names[common]}'", self.metric: accuracy}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Of each file of boxes in COCO's format, beside which pictures and depths lie, the `pictures`: of each its name, the
        `relations` of its things, as those of `Relations`, and a `text` that tells them.
        """
        answers = []
        for given in inputs:
            rows, told = read_boxes(Path(given)), []
            depths = rows.pick(self.options.depth, DEPTHS, "depth")
            files = zip(rows.column("image"), rows.files("image"), rows.files(depths), strict=True)
            for row, (name, file, far) in enumerate(files):
                picture = pictures.decode(*file)
                size = picture.height, picture.width
                cells = self.prepare([picture])["inputs"]
                depth = depth_map(far[0], (cells.shape[2], cells.shape[3]), far[1])
                triples = self.related(
                    model, cells, torch.from_numpy(depth), self.things_of(rows.take([row]), [size])[0]
                )
                told.append({"image": name, "text": self.text(triples), "relations": self.plain(triples, size)})
            text = "; ".join(f"{each['image']}: {each['text'] or NOTHING}" for each in told)
            answers.append({"text": text, "pictures": told})
        return answers

    def related(
        self,
        model: nn.Module,
        cells: Float[Tensor, "1 C Y X"],
        depth: Float[Tensor, "Y X"],
        things: Float[Tensor, "T 5"],
    ) -> Triples:
        """What the things of a picture are to each other."""
        count = len(things)
        known = self.cut(cells.expand(count, -1, -1, -1), depth.expand(count, -1, -1), things)
        pairs, found = (1 - torch.eye(count)).nonzero(), []
        with used(model) as device:
            for each in pairs.split(TOGETHER) if len(pairs) else ():
                logits = model(**{name: value[each].to(device) for name, value in known.items()}).float().cpu()
                found.append((self.chosen(logits)[0], logits.softmax(-1).amax(-1)))
        said, scores = (torch.cat(each) for each in zip(*found, strict=True)) if found else (torch.empty(0),) * 2
        there = said > 0
        ends = things[pairs[there]]
        names = torch.cat((ends[..., 0], said[there][:, None] - 1), 1).long()
        triples = Triples(names, corners(ends[..., 1:]), scores[there])
        return triples.surest(len(names))

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """relations.json with the relations in each picture of each file, and NAME_overlay.png with their things; gives the
        files.
        """
        told = [
            (Path(given).parent, each)
            for given, answer in zip(inputs, answers, strict=True)
            for each in answer["pictures"]
        ]
        return super().write([str(folder / each["image"]) for folder, each in told], [each for _, each in told], folder)


def pairs_of(row: int, labels: Float[Tensor, "T E"]) -> Int[Tensor, "P 4"]:
    """Every two things of a picture: its number, subject, object, and the number of their relation, 0 for nothing."""
    count = int((labels[:, 0] != IGNORED).sum())
    to = labels[:count, 5 : 5 + count].long()
    ends = (1 - torch.eye(count)).nonzero()
    numbers = torch.where(to == IGNORED, 0, to + 1)[ends[:, 0], ends[:, 1]]
    return torch.cat((torch.full((len(ends), 1), row), ends, numbers[:, None]), 1)


def recalled(
    where: Int[Tensor, " P"],
    labels: Int[Tensor, " P"],
    numbers: Int[Tensor, " P"],
    scores: Float[Tensor, " P"],
    most: int,
) -> float:
    """Of all relations the share that is among the `most` surest of those said, one for each pair, in its picture."""
    order = scores.argsort(descending=True, stable=True)
    order = order[where[order].argsort(stable=True)]
    _, counts = where.unique(return_counts=True)
    rank = torch.cat([torch.arange(count) for count in counts.tolist()])
    right = (numbers == labels)[order] & (rank < most)
    return float(right.sum() / (labels > 0).sum().clamp(min=1))
