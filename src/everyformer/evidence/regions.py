"""Evidence for regions that are described one by one, on handwritten digits pasted on empty pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

import everyformer as ef
from everyformer.boxes import centred, corners, overlaps
from everyformer.data.builtin import digits
from everyformer.data.canvases import DIGITS, MOST, SIDE, SIZES, canvases
from everyformer.data.precision import Precision
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.generation import Thing, describe
from everyformer.models import Described, Xavier
from everyformer.objectives import DescribedRegions
from everyformer.objectives.base import IGNORED

_STEPS, _BATCH = 400, 16
_COUNTS = {"train": 1500, "test": 200}
_WORDS = ("end", "name", "describe", *SIZES, *DIGITS)
_TASKS = {
    "name": tuple((digit,) for digit in DIGITS),
    "describe": tuple((size, digit) for size in SIZES for digit in DIGITS),
}
"""What each task says of a thing: its digit, or its size and its digit."""
_TEXTS = tuple(
    tuple(_WORDS.index(word) for word in (task, *words, "end")) for task, each in _TASKS.items() for words in each
)


@dataclass(frozen=True)
class _Canvases:
    pictures: Float[Tensor, "B 1 Y X"]
    boxes: Float[Tensor, "B T 4"]
    """Centre and size of what is seen of each digit, as shares."""
    kinds: dict[str, Int[Tensor, "B T"]]
    """Which of the texts of each task is true of it; -100 fills up."""

    def labels(self, task: str, rows: Sequence[int] | Tensor) -> Float[Tensor, "B T 5"]:
        """The things of some pictures, their texts numbered among those of all tasks."""
        kinds = self.kinds[task][rows]
        numbers = torch.where(kinds == IGNORED, IGNORED, kinds + (task == "describe") * len(_TASKS["name"]))
        return torch.cat((numbers[..., None].float(), self.boxes[rows]), -1)


@cache
def _canvases(part: str) -> _Canvases:
    """Pictures with digits of that part of scikit-learn's."""
    rows, count = digits()[part], _COUNTS[part]
    images, labels = np.asarray(rows.column("image")), np.asarray(rows.column("label"))
    pictures, things = canvases(images, labels, count, {"train": 0, "test": 2}[part])
    boxes = np.zeros((count, MOST, 4), np.float32)
    kinds = {task: np.full((count, MOST), IGNORED) for task in _TASKS}
    for number, each in enumerate(things):
        for thing in each:
            boxes[number, thing.place] = thing.box
            kinds["name"][number, thing.place] = thing.digit
            kinds["describe"][number, thing.place] = len(DIGITS) * thing.size + thing.digit
    return _Canvases(
        (torch.from_numpy(pictures)[:, None] - 40) / 80,
        centred(torch.from_numpy(boxes) / SIDE),
        {task: torch.from_numpy(each) for task, each in kinds.items()},
    )


@cache
def _trained(tasks: tuple[str, ...], steps: int) -> Described:
    """A model that learns these tasks by turns."""
    design = ef.design(
        "grit", image=SIDE, patch=8, channels=1, width=64, depth=2, heads=4, window=4, whole=1, pretrained=8, drop_path=0.0,
        hidden=32, groups=4, coarser=0, looks=2, look_hidden=64, before=16, count=12, side=5, vocabulary=len(_WORDS),
        length=4, text_width=48, text_depth=2, text_heads=4, dropout=0.0,
    )  # fmt: skip
    # Digits are small, so that the finest map shows all; a decoder so narrow hardly learns from BERT's 0.02.
    small = {"head.shown": 1, "head.side": 5, "describer.start": ef.spec(Xavier)}
    for path, option in small.items():
        design = design.set(path, option)
    model = design.build(seed=0)
    canvases, generator = _canvases("train"), torch.Generator().manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        rows = torch.randint(len(canvases.pictures), (_BATCH,), generator=generator)
        return {"inputs": canvases.pictures[rows], "labels": canvases.labels(tasks[step % len(tasks)], rows)}

    objective = DescribedRegions(texts=_TEXTS, shares=(0.6, 0.7))
    made = learn(model, objective, batch, steps, lr=2e-3, rate=warmed(50), weight_decay=0.05, clip=1.0)
    assert isinstance(made, Described)
    return made


@cache
def _found(tasks: tuple[str, ...], steps: int, task: str) -> list[list[Thing]]:
    """What a model says of pictures that it has not seen, asked for one task."""
    model, options = _trained(tasks, steps), {"eos": 0, "pad": 0, "max_tokens": 3}
    pictures = _canvases("test").pictures.split(50)
    return [found for each in pictures for found in describe(model, each, bos=[_WORDS.index(task)], **options)]


def _truth(row: int, task: str) -> tuple[Tensor, Tensor]:
    canvases = _canvases("test")
    kinds = canvases.kinds[task][row]
    return corners(canvases.boxes[row][kinds != IGNORED]), kinds[kinds != IGNORED]


def _kind(thing: Thing, task: str) -> int:
    """The number of a text, as long as it is one of the task's (closed set: any other is dropped); -1 for none."""
    said = tuple(_WORDS[token] for token in thing.tokens)
    return _TASKS[task].index(said) if said in _TASKS[task] else -1


def _precision(found: list[list[Thing]], task: str, *, named: bool = True) -> float:
    """The average precision at 0.5, of things with their texts, or whatever is said of them."""
    precision = Precision()
    for row, things in enumerate(found):
        boxes, kinds = _truth(row, task)
        right = [each for each in things if _kind(each, task) >= 0] if named else things
        said = torch.tensor([each.box for each in right]).view(-1, 4)
        numbers = torch.tensor([_kind(each, task) for each in right], dtype=torch.long)
        scores = torch.tensor([each.score for each in right])
        precision.add(said, numbers if named else 0 * numbers, scores, boxes, kinds if named else 0 * kinds)
    return precision.figures()["ap50"]


def _accuracy(found: list[list[Thing]], task: str) -> float:
    """How often what is said of a thing is just what is true of it, where the box in question has half of the union in
    common with it.
    """
    right = []
    for row, things in enumerate(found):
        boxes, kinds = _truth(row, task)
        for thing in things:
            share, which = overlaps(torch.tensor(thing.box), boxes)[0].max(0)
            if share >= 0.5:
                right.append(_kind(thing, task) == int(kinds[which]))
    return mean(right) if right else 0.0


def _mean_boxes(task: str) -> tuple[float, float]:
    """The average precision of always answering with the mean box of each text, and how often the commonest text is right."""
    train = _canvases("train")
    kinds = train.kinds[task]
    counts = torch.bincount(kinds[kinds != IGNORED], minlength=len(_TASKS[task]))
    things = [
        Thing(tuple(corners(train.boxes[kinds == kind].mean(0)).tolist()), list(_TEXTS[kind + offset][1:-1]), float(count))
        for offset in (len(_TASKS["name"]) * (task == "describe"),)
        for kind, count in enumerate(counts)
    ]  # fmt: skip
    tested = _canvases("test").kinds[task]
    common = (tested[tested != IGNORED] == counts.argmax()).float().mean()
    return _precision([things] * len(tested), task), float(common)


@evidence("grit", kind="learns", claim="One model finds pasted digits, names them and describes them.")
def grit_learns() -> Finding:
    """The begin token says which; against the mean box of each text, and against the commonest one."""
    figures: dict[str, dict[str, float]] = {}
    for task in _TASKS:
        found = _found(tuple(_TASKS), _STEPS, task)
        precision, common = _mean_boxes(task)
        figures[task] = {
            "boxes": _precision(found, task, named=False), "texts": _precision(found, task),
            "exact": _accuracy(found, task), "mean boxes": precision, "commonest": common,
        }  # fmt: skip
    told = figures["describe"]
    holds = told["boxes"] > 0.7 and told["exact"] > 0.8 and figures["name"]["texts"] > 0.7
    finding = "; ".join(
        f"{task}: AP50 of boxes {each['boxes']:.3f}, with exact texts {each['texts']:.3f} (mean boxes "
        f"{each['mean boxes']:.3f}), texts exact {each['exact']:.3f} (commonest {each['commonest']:.3f})"
        for task, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)


@evidence(
    "grit",
    kind="claim",
    claim="One model as detector and captioner is not worse than one for each, both of half as many steps (section 4).",
)
def grit_one_for_both() -> Finding:
    """AP50 with exact texts, the mean of both tasks."""
    one = {task: _precision(_found(tuple(_TASKS), _STEPS, task), task) for task in _TASKS}
    two = {task: _precision(_found((task,), _STEPS // 2, task), task) for task in _TASKS}
    holds = mean(one.values()) >= mean(two.values())
    shown = [", ".join(f"{task} {each:.3f}" for task, each in figures.items()) for figures in (one, two)]
    return Finding(verdict(holds), f"AP50 of one: {shown[0]}; of two: {shown[1]}", {"one": one, "two": two})
