"""Image classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from everyformer.data import pictures
from everyformer.data.classification import ClassTask
from everyformer.data.labels import fit_classes, labels_of
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import data_uri, indices_of, task
from everyformer.errors import BadInput


@dataclass(kw_only=True)
class Options(Where):
    """The `data` section of image classification."""

    input: str | None = None
    """The column of the pictures; found by its usual names where not given."""
    label: str | None = None
    """The column of the classes."""
    classes: int | list[str] | None = None
    """How many classes, or their names; found in the data where not given."""
    image: int | None = None
    """Side in pixels that pictures are brought to, and the design is made for; may be left out where all have one size."""
    channels: Literal[1, 3] | None = None
    """1 gray, 3 colour; found in the data where not given."""
    fit: Literal["crop", "stretch", "keep"] = "crop"
    """How a picture that is not square is made so; `keep` leaves each its own size and shape."""
    mean: list[float] | None = None
    """Mean of each channel (0 to 1); of the training part where not given."""
    std: list[float] | None = None
    shift: int = 0
    """Augmentation: pixels that a picture is moved by, at most."""
    flip: bool = False
    """Augmentation: mirror half of the pictures."""
    cutout: int = 0
    """Augmentation: side of a square that is blacked out."""
    broken: Literal["error", "skip"] = "error"
    """What to do with a picture that cannot be read."""


@task
class ImageClassification(ClassTask):
    """Pictures into classes; they are decoded once and kept in memory as bytes."""

    name: ClassVar[str] = "image-classification"
    Options: ClassVar[type[Where]] = Options
    parts: dict[str, tuple[Tensor | list[Tensor], Tensor]]  # type: ignore[assignment]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Decode all pictures and fit size, channels, mean and deviation on the training part."""
        rows = read_rows(options)
        column = rows["train"].pick(options.input, ("image", "img", "picture", "pixel_values"), "input")
        label = rows["train"].pick(options.label, ("label", "labels", "class", "target", "fine_label"), "label")
        parts = divide(rows, options, label)
        classes = fit_classes(parts["train"], label, options.classes)
        labels = labels_of(parts, label, classes)
        made: dict[str, tuple[Tensor | list[Tensor], Tensor]] = {}
        size, channels = options.image, options.channels
        for split, part in parts.items():
            found, kept = _decode(part, column, options.broken)
            if size is None:
                size = _usual_size(found) if options.fit == "keep" else _common_size(found, part)
            if channels is None:
                channels = 1 if all(pictures.is_gray(each) for each in found) else 3
            arrays = [torch.tensor(pictures.to_array(each, size, channels, options.fit)) for each in found]
            made[split] = (
                arrays if options.fit == "keep" else torch.stack(arrays),
                torch.tensor(labels[split])[kept],
            )
        state: dict[str, Any] = {"classes": classes}
        state["mean"], state["std"] = pictures.moments(made["train"][0], options.mean, options.std)
        state["facts"] = {"classes": len(classes), "channels": channels, "image": size}
        self = cls(options, state)
        self.parts = made
        return self

    def size(self, split: str) -> int:
        """How many pictures a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, C, Y, X) and `labels` (B,), `sizes` (B, 2) where pictures of several are padded; augmented if `train`."""
        rows = indices_of(indices, self.size(split), split)
        found, labels = self.parts[split]
        change = (self.options.shift, self.options.flip, self.options.cutout) if train else (0, False, 0)
        if isinstance(found, Tensor):
            inputs = {"inputs": self._normal(pictures.augment(found[rows], rows, seed, *change))}
        else:
            inputs = self._padded([pictures.augment(found[row][None], [row], seed, *change)[0] for row in rows])
        return {**inputs, "labels": labels[rows]}

    def raw(self, split: str, index: int) -> tuple[Any, ...]:
        """The bytes of a picture."""
        return (self.parts[split][0][index],)

    def show(self, split: str, index: int) -> str:
        """A picture as a data URI."""
        return data_uri(self.parts[split][0][index].numpy())

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Paths, bytes, arrays or PIL pictures as (B, C, Y, X), with `sizes` where they have several."""
        size, channels, fit = self.facts["image"], self.facts["channels"], self.options.fit
        return self._padded(
            [torch.tensor(pictures.to_array(pictures.decode(each), size, channels, fit)) for each in inputs]
        )

    def processor(self) -> dict[str, Any]:
        """Pictures that are not square are resized before the cut there, and in one step here."""
        side, fit = self.facts["image"], self.options.fit
        square = {"height": side, "width": side}
        cut = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": square}
        fitted: dict[str, dict[str, Any]] = {"stretch": {"size": square}, "crop": cut, "keep": {}}
        return {
            "image_processor_type": "ViTImageProcessor", "image_mean": self.state["mean"], "image_std": self.state["std"],
            "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255, "resample": 3, "do_resize": fit != "keep",
            **fitted[fit],
        }  # fmt: skip

    def _padded(self, chosen: list[Tensor]) -> dict[str, Tensor]:
        together, sizes = pictures.padded(chosen)
        inputs = {"inputs": self._normal(together)}
        return inputs if bool((sizes == sizes[0]).all()) else {**inputs, "sizes": sizes}

    def _normal(self, chosen: Tensor) -> Tensor:
        return pictures.normalise(chosen, self.state["mean"], self.state["std"])


def _decode(part: Rows, column: str, broken: str) -> tuple[list[Any], list[int]]:
    found, kept, first = [], [], None
    values = part.files(column)
    for row, (value, name) in enumerate(values):
        try:
            found.append(pictures.decode(value, name))
            kept.append(row)
        except BadInput as error:
            first = first or error
            if broken == "error":
                raise BadInput(f"{error}, or set data.broken=skip (row {row} of {len(values)})") from None
    if not found:
        raise BadInput(f"none of the {len(values)} pictures of {part.where} can be read; the first: {first}")
    return found, kept


def _common_size(found: list[Any], part: Rows) -> int:
    sizes = {each.size for each in found}
    if len(sizes) > 1 or len(set(found[0].size)) > 1:
        shown = ", ".join(f"{w}x{h}" for w, h in sorted(sizes)[:3]) + (", ..." if len(sizes) > 3 else "")
        raise BadInput(
            f"the pictures of {part.where} are {shown} (width x height), not all of one square size; "
            f"say what to bring them to: data.image={min(min(size) for size in sizes)}"
        )
    return int(found[0].size[0])


def _usual_size(found: list[Any]) -> int:
    return int(np.median([min(each.size) for each in found]))
