"""What tasks share that answer a picture with a map: one value or one class for each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.data import pictures
from everyformer.data.files import read_beside
from everyformer.data.moves import Moves
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import Task, affordable, data_uri, indices_of, used
from everyformer.data.tiles import tiled
from everyformer.errors import BadInput
from everyformer.objectives.base import LABELS


@dataclass(kw_only=True)
class MapOptions(Where):
    """What the `data` sections of these tasks share."""

    input: str | None = None
    """The column of the pictures; found by its usual names where not given. A folder has `images` and `masks`."""
    target: str | None = None
    """The column of the maps; found by its usual names where not given."""
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
    tile: int | None = None
    """In use, pictures with a longer side are answered in windows of this side, each half over the next."""


class MapTask(Task):
    """Base of tasks with a map for each picture; pictures are decoded once and kept in memory as bytes."""

    targets: ClassVar[tuple[str, ...]] = ()
    """The usual names of the column of the maps."""
    outside: ClassVar[float] = 0
    """What a map has where it counts for nothing, and beyond the border of a picture."""
    parts: dict[str, tuple[Tensor, Tensor]]
    """The pictures and the maps of each part."""

    @classmethod
    def read(cls, options: Any) -> Self:
        """Decode all pictures and maps; mean and deviation are those of the training part."""
        rows = read_rows(options, read_beside)
        column = rows["train"].pick(options.input, ("image", "img", "picture", "pixel_values"), "input")
        target = rows["train"].pick(options.target, cls.targets, "target")
        parts = divide(rows, options)
        made: dict[str, tuple[Tensor, Tensor]] = {}
        size = None if options.size is None else (options.size[0], options.size[1])
        for split, part in parts.items():
            found = [pictures.decode(*each) for each in part.files(column)]
            size = size or _common_size(found, part)
            seen = np.stack([pictures.to_size(each, size, options.channels) for each in found])
            maps = np.stack([cls.decoded(value, size, name, options) for value, name in part.files(target)])
            made[split] = torch.from_numpy(seen), torch.from_numpy(maps)
        mean, std = pictures.moments(made["train"][0], options.mean, options.std)
        facts = {"channels": options.channels, "image": options.crop or max(size or (1,))}
        self = cls(options, {"mean": mean, "std": std, "facts": facts})
        self.parts = made
        self.fit(parts)
        return self

    @classmethod
    def decoded(cls, value: Any, size: tuple[int, int], name: str, options: Any) -> np.ndarray:
        """A raw map as (height, width)."""
        raise NotImplementedError

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Check the maps and find what is to be known of them."""

    def size(self, split: str) -> int:
        """How many pictures a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, C, Y, X) and `labels` (B, Y, X); windows of them where `train`."""
        rows = indices_of(indices, self.size(split), split)
        found, labels = (part[rows] for part in self.parts[split])
        inputs, options = self._normal(found), self.options
        if train and (options.crop or options.zoom or options.flip):
            whole = inputs.shape[2], inputs.shape[3]
            low, high = options.zoom or (1.0, 1.0)
            size = (options.crop, options.crop) if options.crop else whole
            moves = Moves(rows, seed, size=size, of=whole, zoom=(low, high), flip=options.flip)
            inputs, labels = moves.pictures(inputs), moves.maps(labels, self.outside)
        return {"inputs": inputs, LABELS: labels}

    def maps(
        self, model: nn.Module, split: str, batch: int, channels: int
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """The model's answers to all samples of a part: indices, labels, and answers as fine as those."""
        height, width = self.parts[split][1].shape[1:] if self.size(split) else (1, 1)
        for indices, tensors, given in self.answers(model, split, affordable(batch, channels * height * width)):
            yield indices, tensors[LABELS], resized(given, (height, width))

    def strip(self, split: str, index: int, *maps: np.ndarray) -> str:
        """A picture and coloured maps side by side, as a data URI."""
        picture = self.parts[split][0][index].numpy()
        rows = np.broadcast_to(picture.transpose(1, 2, 0), (*picture.shape[1:], 3))
        return data_uri(np.concatenate([rows, *maps], 1).transpose(2, 0, 1))

    def mapped(self, model: nn.Module, inputs: Sequence[Any]) -> Iterator[Tensor]:
        """The model's answer to each raw picture, (1, V, Y, X) as large as it, window by window where it is large."""
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                cells = self.prepare([picture])["inputs"].to(device)
                side = self.options.tile or max(cells.shape[2:])
                said = tiled(lambda window: model(window).float(), cells, side, max(side // 2, 1))
                yield resized(said, (picture.height, picture.width)).cpu()

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


def _common_size(found: Sequence[Any], part: Rows) -> tuple[int, int]:
    sizes = {(each.height, each.width) for each in found}
    if len(sizes) > 1:
        (low, narrow), (high, wide) = min(sizes), max(sizes)
        raise BadInput(
            f"the pictures of {part.where} are of several sizes, from {low}x{narrow} to {high}x{wide} (height x width); "
            f"say what to bring them to: data.size=[{low}, {narrow}]"
        )
    return sizes.pop()
