"""Segmentation: what each pixel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data import pictures
from everyformer.data.mapped import MapOptions, MapTask, write_masks
from everyformer.data.pictured import sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, task
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.objectives import BinaryMasks, ClusterMasks, DeepPixelClasses, Masks, PixelClasses
from everyformer.objectives.base import IGNORED
from everyformer.specs import Spec, spec

OBJECTIVES = {
    "pixels": PixelClasses, "deep pixels": DeepPixelClasses, "masks": Masks, "binary masks": BinaryMasks,
    "clusters": ClusterMasks,
}  # fmt: skip
"""What a loss may be of."""


@dataclass(kw_only=True)
class Options(MapOptions):
    """The `data` section of segmentation; the maps are pictures whose values are the numbers of classes."""

    classes: int | list[str] | None = None
    """How many classes, or their names; found in the training masks where not given."""
    ignored: list[int] | None = None
    """Values of masks that are no class (void): they count for nothing."""


@task
class Segmentation(MapTask):
    """Pictures into the class of each pixel."""

    name: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "miou"
    targets: ClassVar[tuple[str, ...]] = ("mask", "annotation", "segmentation", "label")
    outside: ClassVar[float] = IGNORED
    Options: ClassVar[type[Where]] = Options

    def decoded(self, value: Any, size: tuple[int, int], name: str) -> np.ndarray:
        """The number of the class of each pixel."""
        return pictures.to_numbers(pictures.decode(value, name), size, name).astype(np.int64)

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Find the classes; a value that is none is refused, or is one to be ignored."""
        ignored = torch.tensor(self.options.ignored or [], dtype=torch.long)
        train = self.parts["train"][1]
        given = self.options.classes or rows["train"].classes.get(
            rows["train"].pick(self.options.target, self.targets, "")
        )
        if not isinstance(given, list):
            given = [str(i) for i in range(given or int(train[~torch.isin(train, ignored)].max()) + 1)]
        self.state["classes"] = list(given)
        self.facts["classes"] = len(given)
        for split, (_, masks) in self.parts.items():
            void = torch.isin(masks, ignored)
            wrong = (masks >= len(given)) & ~void
            if wrong.any():
                row = int(wrong.flatten(1).any(1).nonzero()[0])
                raise BadInput(
                    f"mask {row} of {rows[split].where} has the value {int(masks[wrong][0])}, and there are {len(given)} "
                    f"classes (0 to {len(given) - 1}); name it in data.ignored=[...] if it is void, or give data.classes"
                )
            masks[void] = IGNORED

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.state["classes"]
        return names

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of each pixel, with Dice where it is asked for; `of="deep pixels"`: of maps that the head notes too;
        "masks", "binary masks" or "clusters": of a set of masks, for heads that say one.
        """
        of = options.pop("of", "pixels")
        if of not in OBJECTIVES:
            raise UnknownName("objective.of", str(of), OBJECTIVES)
        return spec(OBJECTIVES[of], **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Mean intersection over union, the share of pixels that are right, and cross entropy (nats) over all pixels."""
        digest, count = Digest(), len(self.classes)
        table = torch.zeros(count, count, dtype=torch.long)
        loss, shown = 0.0, []
        every = max(1, self.size(split) // 8)
        for indices, labels, logits in self.maps(model, split, batch, count):
            if logits.shape[1] != count:
                raise DoesNotFit(
                    f"the model answers with {logits.shape[1]} classes and the data has {count}; "
                    f"build the design with classes={count}",
                    "head",
                )
            loss += float(F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED).double().sum())
            said = logits.argmax(1)
            for row, index in enumerate(indices):
                digest.add(self.parts[split][0][index], labels[row])
                own = confusion(said[row], labels[row], count)
                table += own
                if index % every == 0:
                    strip = self.strip(split, index, *(pictures.coloured(x[row].numpy()) for x in (labels, said)))
                    told = {"expected": self._told(labels[row]), "answer": self._told(said[row])}
                    shown.append({"input": strip, **told, "accuracy": _right(own)})
        figures = {"miou": mean_iou(table), "accuracy": _right(table), "loss": loss / max(int(table.sum()), 1)}
        return Score(figures, self.size(split), str(digest), sorted_examples(shown, "accuracy"))

    def baseline(self, split: str) -> dict[str, Any]:
        """The mIoU of always answering with the commonest class of the training part."""
        labels = self.parts[split][1]
        train = self.parts["train"][1]
        common = int(train[train != IGNORED].bincount().argmax())
        table = confusion(torch.full_like(labels, common), labels, len(self.classes))
        return {"name": f"always '{self.classes[common]}', the commonest class", self.metric: mean_iou(table)}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `mask` of each raw picture, uint8 and as large as it, and in a `text` what part of it each class has."""
        masks = [logits.argmax(1)[0] for logits in self.mapped(model, inputs)]
        return [{"text": self._told(mask), "mask": mask.numpy().astype(np.uint8)} for mask in masks]

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """NAME.png with the number of the class of each pixel, NAME_overlay.png to look at, and masks.json with the region
        of each class in COCO's format; gives the files.
        """
        return write_masks(inputs, answers, dict(enumerate(self.classes)), folder)

    def _told(self, numbers: Tensor) -> str:
        """The classes of a map, those with most pixels first."""
        share = numbers[numbers != IGNORED].bincount(minlength=len(self.classes)) / max(numbers.numel(), 1)
        largest = [i for i in share.argsort(descending=True).tolist() if share[i] >= 0.005]
        return ", ".join(f"{self.classes[i]} {share[i]:.0%}" for i in largest)


def confusion(said: Int[Tensor, "..."], truth: Int[Tensor, "..."], count: int) -> Int[Tensor, "V V"]:
    """How many pixels of each class (rows) were answered with each (columns); those that count for nothing left out."""
    real = truth != IGNORED
    return torch.bincount(truth[real] * count + said[real], minlength=count**2).view(count, count)


def mean_iou(table: Int[Tensor, "V V"]) -> float:
    """The mean of intersection over union, over the classes that are there or were answered."""
    right = table.diagonal().double()
    union = table.sum(0) + table.sum(1) - right
    return float((right[union > 0] / union[union > 0]).mean())


def _right(table: Tensor) -> float:
    return float(table.diagonal().sum()) / max(int(table.sum()), 1)
