"""What tasks share that answer a picture with more than one class: maps of its pixels, boxes of its things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from everyformer.data import pictures
from everyformer.data.moves import Moves
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import Task, data_uri, indices_of
from everyformer.errors import BadInput
from everyformer.objectives.base import LABELS


@dataclass(kw_only=True)
class PictureOptions(Where):
    """What the `data` sections of these tasks share."""

    input: str | None = None
    """The column of the pictures; found by its usual names where not given."""
    target: str | None = None
    """The column of the targets; found by its usual names where not given."""
    size: list[int] | None = None
    """Height and width that pictures are brought to; may be left out where all have one size."""
    channels: Literal[1, 3] = 3
    """1 gray, 3 colour."""
    mean: list[float] | None = None
    """Mean of each channel (0 to 1); of the training part where not given."""
    std: list[float] | None = None
    crop: int | None = None
    """Augmentation: side of a square window of each picture; whole pictures without."""
    zoom: list[float] | None = None
    """Augmentation: pictures are enlarged by a factor between these two."""
    flip: bool = False
    """Augmentation: mirror half of the pictures."""


class PictureTask(Task):
    """Base of tasks whose targets move with the picture; pictures are decoded once and kept in memory as bytes."""

    targets: ClassVar[tuple[str, ...]] = ()
    """The usual names of the column of the targets."""
    parts: dict[str, tuple[Tensor, Tensor]]
    """The pictures and the targets of each part."""

    @classmethod
    def rows(cls, options: Any) -> dict[str, Rows]:
        """The rows of each part that the data has."""
        return read_rows(options)

    @classmethod
    def divided(cls, rows: dict[str, Rows], options: Any) -> dict[str, Rows]:
        """The rows of all parts."""
        return divide(rows, options)

    @classmethod
    def read(cls, options: Any) -> Self:
        """Decode all pictures and targets; mean and deviation are those of the training part."""
        rows = cls.rows(options)
        column = rows["train"].pick(options.input, ("image", "img", "picture", "pixel_values"), "input")
        rows["train"].pick(options.target, cls.targets, "target")
        parts = cls.divided(rows, options)
        seen: dict[str, Tensor] = {}
        sizes: dict[str, list[tuple[int, int]]] = {}
        size = None if options.size is None else (options.size[0], options.size[1])
        for split, part in parts.items():
            found = [pictures.decode(*each) for each in part.files(column)]
            sizes[split] = [(each.height, each.width) for each in found]
            size = size or _common_size(sizes[split], part)
            seen[split] = torch.from_numpy(
                np.stack([pictures.to_size(each, size, options.channels) for each in found])
            )  # fmt: skip
        mean, std = pictures.moments(seen["train"], options.mean, options.std)
        facts = {"channels": options.channels, "image": options.crop or max(size or (1,))}
        self = cls(options, {"mean": mean, "std": std, "facts": facts})
        self.fit(parts)
        self.parts = {split: (seen[split], self.targets_of(part, sizes[split], size)) for split, part in parts.items()}
        self.check(parts)
        return self

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Find what is to be known before targets are read."""

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """The targets of all rows, of pictures of these sizes that are brought to one."""
        raise NotImplementedError

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Check the targets, and find what is to be known of them."""

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """The targets after the moves of their pictures."""
        raise NotImplementedError

    def size(self, split: str) -> int:
        """How many pictures a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, C, Y, X) and `labels`; of windows of the pictures where `train`."""
        rows = indices_of(indices, self.size(split), split)
        found, labels = (part[rows] for part in self.parts[split])
        inputs, options = self._normal(found), self.options
        if train and (options.crop or options.zoom or options.flip):
            whole = inputs.shape[2], inputs.shape[3]
            low, high = options.zoom or (1.0, 1.0)
            size = (options.crop, options.crop) if options.crop else whole
            moves = Moves(rows, seed, size=size, of=whole, zoom=(low, high), flip=options.flip)
            inputs, labels = moves.pictures(inputs), self.moved(moves, labels)
        return {"inputs": inputs, LABELS: labels}

    def strip(self, split: str, index: int, *beside: np.ndarray) -> str:
        """A picture and others side by side, as a data URI."""
        return data_uri(np.concatenate([self.shown(split, index), *beside], 1).transpose(2, 0, 1))

    def shown(self, split: str, index: int) -> np.ndarray:
        """A picture as (Y, X, 3)."""
        picture = self.parts[split][0][index].numpy()
        return np.broadcast_to(picture.transpose(1, 2, 0), (*picture.shape[1:], 3))

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Paths, bytes, arrays or PIL pictures as (B, C, Y, X); as large as they are where `size` is not given."""
        found = [pictures.decode(each) for each in inputs]
        size = tuple(self.options.size) if self.options.size else (found[0].height, found[0].width)
        arrays = [pictures.to_size(each, size, self.options.channels) for each in found]
        return {"inputs": self._normal(torch.from_numpy(np.stack(arrays)))}

    def _normal(self, chosen: Tensor) -> Tensor:
        return pictures.normalise(chosen, self.state["mean"], self.state["std"])


def save(folder: Path, files: Mapping[str, np.ndarray]) -> list[str]:
    """Write arrays as PNG files; gives their names."""
    from PIL import Image

    for name, array in files.items():
        Image.fromarray(array).save(folder / f"{name}.png")
    return [f"{name}.png" for name in files]


def sorted_examples(shown: list[dict[str, Any]], by: str) -> dict[str, list[dict[str, Any]]]:
    """Examples, the better half and the worse half, by a figure of which the higher is the better."""
    shown = sorted(shown, key=lambda each: -each[by])
    half = (len(shown) + 1) // 2
    return {"right": shown[:half], "wrong": shown[half:][::-1]}


def _common_size(found: Sequence[tuple[int, int]], part: Rows) -> tuple[int, int]:
    sizes = set(found)
    if len(sizes) > 1:
        (low, narrow), (high, wide) = min(sizes), max(sizes)
        raise BadInput(
            f"the pictures of {part.where} are of several sizes, from {low}x{narrow} to {high}x{wide} (height x width); "
            f"say what to bring them to: data.size=[{low}, {narrow}]"
        )
    return sizes.pop()
