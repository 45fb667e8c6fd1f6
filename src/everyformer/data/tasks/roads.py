"""Lane detection: the lines on a road, written number by number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data import pictures
from everyformer.data.decoding import Decoding
from everyformer.data.draws import uniform
from everyformer.data.moves import Moves
from everyformer.data.padding import pad_right
from everyformer.data.pictured import PictureOptions, PictureTask, save, sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, affordable, task, used, write
from everyformer.data.written_lanes import FORMATS, Format, Lane, Writer, at_equal_heights, downwards, f1
from everyformer.errors import BadInput, UnknownName
from everyformer.objectives import SequenceToSequence
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

POINTS = 24
"""In how many points a lane is kept, at equal distances in height."""
PROMPT = 2
"""How many tokens stand before what is written: the start and the format."""
TOGETHER = 64
"""Pictures about which is written in one pass."""


@dataclass(kw_only=True)
class Options(PictureOptions):
    """The `data` section of lane detection: a table with a column of pictures and one of lanes, each a list of points [x, y]
    in pixels of the picture.
    """

    formats: list[str] = field(default_factory=lambda: ["anchor"])
    """How lanes are written, 'anchor', 'segmentation' or 'parameter'; of several each picture gets one, drawn; in use the
    first.
    """
    points: int = 14
    """By how many points a lane is told."""
    bins: int = 1000
    """By how many numbers a place is told."""


@task
class LaneDetection(PictureTask):
    """Pictures of roads into lanes, from left to right."""

    name: ClassVar[str] = "lane-detection"
    metric: ClassVar[str] = "f1"
    watched: ClassVar[tuple[str, str]] = ("loss", "min")
    targets: ClassVar[tuple[str, ...]] = ("lanes",)
    Options: ClassVar[type[Where]] = Options

    @classmethod
    def read(cls, options: Any) -> Any:
        """Read pictures and lanes; a format that is not known is refused before."""
        for name in options.formats:
            if name not in FORMATS:
                raise UnknownName("data.formats", name, FORMATS)
        if not options.formats or options.points < 2 or options.bins < 2:
            raise BadInput(
                f"data.formats has one name or more, data.points and data.bins are at least 2; given {options.formats}, "
                f"{options.points} and {options.bins}"
            )
        return super().read(options)

    @property
    def formats(self) -> list[Format]:
        """The formats that lanes are written in."""
        return [FORMATS[name](self.options.points) for name in self.options.formats]

    @property
    def longest(self) -> int:
        """How many tokens are written about a picture at most, the end with them."""
        return int(self.facts["length"]) - PROMPT

    @property
    def writer(self) -> Writer:
        """What writes and reads lanes."""
        return Writer(self.options.bins)

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """(B, L, POINTS, 2): of each lane its points from above, as shares of the picture's sides; no numbers fill up."""
        column = rows.column(rows.pick(self.options.target, self.targets, "target"))
        found = []
        for row, (lanes, (height, width)) in enumerate(zip(column, sizes, strict=True)):
            found.append([_checked(lane, row, rows.where) / (width, height) for lane in lanes])
        return _stacked([[at_equal_heights(downwards(lane), POINTS).clip(0, 1) for lane in each] for each in found])

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Find how long a sequence can be."""
        most = max(labels.shape[1] for _, labels in self.parts.values())
        longest = most * (1 + max(form.count for form in self.formats)) + 1
        self.facts.update(bins=self.options.bins, length=longest + PROMPT)

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """The lanes in the windows, cut at their borders."""
        cut = [[_inside(lane.numpy()) for lane in each] for each in moves.points(targets)]
        made = _stacked([[lane for lane in each if lane is not None] for each in cut])
        return F.pad(made, (0, 0, 0, 0, 0, targets.shape[1] - made.shape[1]), value=torch.nan)

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, C, Y, X), `target` (from the start on, the format second) and `labels` (to the end; the format has none)."""
        found = super().batch(split, indices, train=train, seed=seed)
        drawn = (uniform(seed, indices, 1)[:, 0] * len(self.formats)).long().tolist()
        forms = [self.formats[i] for i in drawn]
        written = [self.writer.write(form, lanes_of(row)) for form, row in zip(forms, found[LABELS], strict=True)]
        return {"inputs": found["inputs"], **self.taught(forms, written)}

    def taught(self, forms: Sequence[Format], written: Sequence[list[int]]) -> dict[str, Tensor]:
        """`target` and `labels` of what is written after the prompt of each format."""
        whole = [np.array([*self.writer.prompt(form), *each]) for form, each in zip(forms, written, strict=True)]
        tokens, real = pad_right(whole, 0)
        labels = tokens.masked_fill(~real, IGNORED)[:, 1:]
        labels[:, 0] = IGNORED
        return {"target": tokens[:, :-1], LABELS: labels}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of what is written."""
        return spec(SequenceToSequence, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Loss in nats a token; where `decoding` is given also the F1 of the lanes that are written, a lane being found by one
        that shares half of both, 0.05 wide to each side: that of each format, and their mean.
        """
        digest, loss, count = Digest(), 0.0, 0
        for indices, tensors, logits in self.answers(
            model, split, affordable(batch, self.facts["length"] * (self.options.bins + 6))
        ):
            labels = tensors[LABELS]
            loss += float(F.cross_entropy(logits.mT.double(), labels, reduction="sum", ignore_index=IGNORED))
            count += int((labels != IGNORED).sum())
            for index in indices:
                digest.add(*(part[index] for part in self.parts[split]))
        figures, shown = {"loss": loss / count}, []
        if decoding is not None:
            rows = range(self.size(split))
            cells, truth = self.parts[split][0], [lanes_of(each) for each in self.parts[split][1]]
            scores = {}
            for form in self.formats:
                said = self.said(model, self._normal(cells), form, decoding)
                scores[form.name] = f1(said, truth)
                for i in rows[:: max(1, len(rows) // (8 // len(self.formats)))]:
                    drawn = (lined(self.shown(split, i), each) for each in (truth[i], said[i]))
                    shown.append({"input": self.strip(split, i, *drawn), "f1": f1([said[i]], [truth[i]])})
            figures["f1"] = sum(scores.values()) / len(scores)
            if len(scores) > 1:
                figures |= {f"f1_{name}": score for name, score in scores.items()}
        return Score(figures, self.size(split), str(digest), sorted_examples(shown, "f1"))

    def said(
        self, model: nn.Module, cells: Float[Tensor, "B C Y X"], form: Format, decoding: Mapping[str, Any]
    ) -> list[list[Lane]]:
        """The lanes that a model writes about pictures in that format."""
        words = self.writer
        return [words.read(form, tokens) for tokens in self.tokens(model, cells, form, decoding)]

    def tokens(
        self, model: nn.Module, cells: Float[Tensor, "B C Y X"], form: Format, decoding: Mapping[str, Any]
    ) -> list[list[int]]:
        """What a model writes about pictures in that format, prompt and end left out."""
        words, found = self.writer, list[list[int]]()
        chosen = Decoding.of({"max_tokens": self.longest, **decoding})
        with used(model) as device:
            for part in cells.split(TOGETHER):
                found += chosen.generate(
                    model,
                    part.to(device),
                    bos=words.prompt(form),
                    eos=words.mark("end"),
                    pad=0,
                    pieces=lambda: words.pieces,
                )
        return found

    def baseline(self, split: str) -> dict[str, Any]:
        """The F1 of always answering with the mean of the roads with so many lanes, as many as are best on the training part."""
        train, truth = ([lanes_of(each) for each in self.parts[part][1]] for part in ("train", split))
        counts = {len(each) for each in train} - {0}
        means = [list(np.mean([each for each in train if len(each) == count], 0)) for count in sorted(counts)]
        best = max(means, key=lambda mean: f1([mean] * len(train), train), default=[])
        return {"name": "the mean road", self.metric: f1([best] * len(truth), truth)}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `lanes` on each raw picture, from left to right, each a list of points (x, y in pixels) from above; and in a
        `text` how many they are.
        """
        answers = []
        for given in inputs:
            picture = pictures.decode(given)
            (lanes,) = self.said(model, self.prepare([picture])["inputs"], self.formats[0], decoding or {})
            scaled = [(lane * (picture.width, picture.height)).tolist() for lane in lanes]
            answers.append({"text": f"{len(lanes)} lane{'s' * (len(lanes) != 1)}", "lanes": scaled})
        return answers

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """lanes.jsonl with the lanes of each picture, as they are read for training, and NAME_overlay.png to look at; gives the
        files.
        """
        found = zip(pictures.files(inputs), answers, strict=True)
        lines = [json.dumps({"image": name, "lanes": answer["lanes"]}) for name, answer in found]
        write(folder / "lanes.jsonl", "\n".join(lines) + "\n")
        overlays = {}
        for name, given, answer in zip(pictures.names(inputs), inputs, answers, strict=True):
            picture = np.asarray(pictures.decode(given).convert("RGB"))
            size = picture.shape[1], picture.shape[0]
            overlays[f"{name}_overlay"] = lined(picture, [np.array(lane) / size for lane in answer["lanes"]])
        return ["lanes.jsonl", *save(folder, overlays)]


def lanes_of(target: Float[Tensor, "L P 2"]) -> list[Lane]:
    """The lanes of a picture, from left to right at their lower ends."""
    lanes = target[~target.isnan().flatten(1).any(1)].numpy()
    return sorted(lanes, key=lambda lane: lane[-1, 0])


def lined(picture: np.ndarray, lanes: Sequence[Lane]) -> np.ndarray:
    """A picture (Y, X, 3) with lanes drawn, each in a colour of its own."""
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(np.ascontiguousarray(picture))
    pen = ImageDraw.Draw(drawn)
    for lane, colour in zip(lanes, pictures.coloured(np.arange(len(lanes)) + 1), strict=True):
        pen.line([(x * (drawn.width - 1), y * (drawn.height - 1)) for x, y in lane], fill=tuple(colour.tolist()))
    return np.asarray(drawn)


def _checked(lane: Any, row: int, where: str) -> Lane:
    try:
        found = np.asarray(lane, dtype=np.float32)
    except (TypeError, ValueError):
        raise BadInput(f"row {row} of {where} has the lane {lane!r}; a lane is points, each [x, y] in pixels") from None
    if found.ndim != 2 or found.shape[1] != 2 or len(found) < 2 or not np.isfinite(found).all():
        raise BadInput(
            f"row {row} of {where} has a lane of shape {found.shape}; a lane is two points or more, each [x, y] in pixels"
        )
    return found


def _stacked(lanes: Sequence[Sequence[Lane]]) -> Float[Tensor, "B L P 2"]:
    """Lanes of pictures in one tensor."""
    made = torch.full((len(lanes), max(1, *(len(each) for each in lanes)), POINTS, 2), torch.nan)
    for row, each in zip(made, lanes, strict=True):
        row[: len(each)] = torch.from_numpy(np.array(each, dtype=np.float32).reshape(-1, POINTS, 2))
    return made


def _inside(lane: Lane) -> Lane | None:
    """What a window shows of a lane, by as many points; None where it is no line."""
    there = ((lane >= 0) & (lane <= 1)).all(1)
    return at_equal_heights(lane[there], len(lane)) if there.sum() > 1 else None
