"""What tasks share that answer a picture with a map: one value or one class for each pixel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.data import pictures
from everyformer.data.coco import as_coco, region
from everyformer.data.files import read_beside
from everyformer.data.moves import Moves
from everyformer.data.pictured import PictureOptions, PictureTask, save
from everyformer.data.sources import Rows, read_rows
from everyformer.data.task import affordable, used, write
from everyformer.data.tiles import tiled
from everyformer.objectives.base import LABELS


@dataclass(kw_only=True)
class MapOptions(PictureOptions):
    """What the `data` sections of these tasks share; a folder has `images` and `masks`."""

    tile: int | None = None
    """In use, pictures with a longer side are answered in windows of this side, each half over the next."""


class MapTask(PictureTask):
    """Base of tasks with a map for each picture."""

    outside: ClassVar[float] = 0
    """What a map has where it counts for nothing, and beyond the border of a picture."""

    @classmethod
    def rows(cls, options: Any) -> dict[str, Rows]:
        """The rows of each part that the data has."""
        return read_rows(options, read_beside)

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """The maps (B, Y, X)."""
        column = rows.pick(self.options.target, self.targets, "target")
        return torch.from_numpy(np.stack([self.decoded(value, size, name) for value, name in rows.files(column)]))

    def decoded(self, value: Any, size: tuple[int, int], name: str) -> np.ndarray:
        """A raw map as (height, width)."""
        raise NotImplementedError

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """The windows of the maps."""
        return moves.maps(targets, self.outside)

    def maps(
        self, model: nn.Module, split: str, batch: int, channels: int
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """The model's answers to all samples of a part: indices, labels, and answers as fine as those."""
        height, width = self.parts[split][1].shape[1:] if self.size(split) else (1, 1)
        for indices, tensors, given in self.answers(model, split, affordable(batch, channels * height * width)):
            yield indices, tensors[LABELS], resized(given, (height, width))

    def mapped(self, model: nn.Module, inputs: Sequence[Any]) -> Iterator[Tensor]:
        """The model's answer to each raw picture, (1, V, Y, X) as large as it, window by window where it is large."""
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                cells = self.prepare([picture])["inputs"].to(device)
                side = self.options.tile or max(cells.shape[2:])
                said = tiled(lambda window: model(window).float(), cells, side, max(side // 2, 1))
                yield resized(said, (picture.height, picture.width)).cpu()


def write_masks(
    inputs: Sequence[Any],
    answers: Sequence[Mapping[str, Any]],
    classes: Mapping[int, str],
    folder: Path,
    colours: Callable[[Mapping[str, Any]], np.ndarray] = lambda answer: pictures.coloured(answer["mask"]),
) -> list[str]:
    """Of answers with a `mask`: NAME.png with the number of each pixel, NAME_overlay.png with the `colours` of the answer over
    the picture, and masks.json with the regions of the numbers that `classes` calls by name, in COCO's format; gives the files.
    """
    files: dict[str, np.ndarray] = {}
    found: list[dict[str, Any]] = []
    for name, given, answer in zip(pictures.names(inputs), inputs, answers, strict=True):
        mask = answer["mask"]
        files[name] = mask
        files[f"{name}_overlay"] = laid_over(given, colours(answer))
        told = [int(number) for number in np.unique(mask) if number in classes]
        found.append({"things": [{"label": classes[number], **region(mask == number)} for number in told]})
    shapes = [each["mask"].shape for each in answers]
    masks = as_coco(pictures.files(inputs), shapes, found, list(classes.values()))
    write(folder / "masks.json", json.dumps(masks) + "\n")
    return ["masks.json", *save(folder, files)]


def laid_over(given: Any, colours: np.ndarray) -> np.ndarray:
    """Colours (Y, X, 3) over a raw picture of that size, half of each."""
    return (np.asarray(pictures.decode(given).convert("RGB")) * 0.5 + colours * 0.5).astype(np.uint8)
