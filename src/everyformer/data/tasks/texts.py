"""Text classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from everyformer.data.classification import ClassTask
from everyformer.data.labels import fit_classes, labels_of
from everyformer.data.padding import pad_right
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import indices_of, task
from everyformer.data.vocabulary import PAD, texts_of
from everyformer.data.worded import Readable, ReadableOptions
from everyformer.objectives.base import LABELS


@dataclass(kw_only=True)
class Options(ReadableOptions):
    """The `data` section of text classification."""

    label: str | None = None
    """The column of the classes."""
    classes: int | list[str] | None = None
    """How many classes, or their names; found in the data where not given."""
    length: int = 256
    """Tokens of a text at most; what is beyond is cut off."""
    packed: bool = False
    """Texts one after the other with their `lengths`, in place of padding and a mask."""


@task
class TextClassification(Readable, ClassTask):
    """Texts into classes; a token '<s>' stands in front of each, or what a borrowed tokenizer puts around it."""

    name: ClassVar[str] = "text-classification"
    Options: ClassVar[type[Where]] = Options
    texts: dict[str, list[str]]
    parts: dict[str, tuple[list[np.ndarray], list[int]]]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Read texts and labels and train the vocabulary on the training part."""
        rows = read_rows(options)
        column = rows["train"].pick(options.input, ("text", "sentence", "content", "review"), "input")
        label = rows["train"].pick(options.label, ("label", "labels", "class", "target"), "label")
        parts = divide(rows, options, label)
        classes = fit_classes(parts["train"], label, options.classes)
        labels = labels_of(parts, label, classes)
        self = cls(options, {"classes": classes})
        self.texts = _texts(parts, column)
        self.learn(self.texts["train"])
        self.parts = {split: (self.encode(texts), labels[split]) for split, texts in self.texts.items()}
        self.facts = self.state["facts"] = {
            "classes": len(classes), "vocabulary": self.vocabulary.size, "length": options.length,
        }  # fmt: skip
        return self

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, with what its vocabulary puts around one."""
        return [self.vocabulary.around(ids, self.options.length) for ids in self.vocabulary.encode_all(texts)]

    def size(self, split: str) -> int:
        """How many texts a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def costs(self, split: str) -> list[int]:
        """The tokens of each text."""
        return [len(ids) for ids in self.parts[split][0]]

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, N) with `mask`, or packed (1, T) with `lengths`; `labels` (B,)."""
        rows = indices_of(indices, self.size(split), split)
        ids, labels = self.parts[split]
        return {**self._together([ids[i] for i in rows]), LABELS: torch.tensor([labels[i] for i in rows])}

    def raw(self, split: str, index: int) -> tuple[Any, ...]:
        """The text."""
        return (self.texts[split][index],)

    def show(self, split: str, index: int) -> str:
        """The text."""
        return self.texts[split][index]

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Raw texts as a batch."""
        return self._together(self.encode(texts_of(inputs, "input", "the inputs")))

    def _together(self, ids: list[np.ndarray]) -> dict[str, Tensor]:
        if self.options.packed:
            lengths = torch.tensor([len(each) for each in ids])
            return {"inputs": torch.from_numpy(np.concatenate(ids))[None], "lengths": lengths}
        inputs, mask = pad_right(ids, PAD)
        return {"inputs": inputs} if mask.all() else {"inputs": inputs, "mask": mask}


def _texts(parts: Mapping[str, Rows], column: str) -> dict[str, list[str]]:
    return {split: texts_of(part.column(column), column, part.where) for split, part in parts.items()}
