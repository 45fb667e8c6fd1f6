"""Segmentation: what each pixel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.convolution import resized
from everyformer.data import pictures
from everyformer.data.files import read_beside
from everyformer.data.moves import Moves
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import Digest, Score, Task, affordable, data_uri, indices_of, task, used
from everyformer.data.tiles import tiled
from everyformer.errors import BadInput, DoesNotFit
from everyformer.objectives import PixelClasses
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec


@dataclass(kw_only=True)
class Options(Where):
    """The `data` section of segmentation."""

    input: str | None = None
    """The column of the pictures; found by its usual names where not given. A folder has `images` and `masks`."""
    mask: str | None = None
    """The column of the masks: pictures whose values are the numbers of classes."""
    classes: int | list[str] | None = None
    """How many classes, or their names; found in the training masks where not given."""
    ignored: list[int] | None = None
    """Values of masks that are no class (void): they count for nothing."""
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


@task
class Segmentation(Task):
    """Pictures into the class of each pixel; they are decoded once and kept in memory as bytes."""

    name: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "miou"
    Options: ClassVar[type[Where]] = Options
    parts: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Decode all pictures and masks; mean and deviation are those of the training part."""
        rows = read_rows(options, read_beside)
        column = rows["train"].pick(options.input, ("image", "img", "picture", "pixel_values"), "input")
        mask = rows["train"].pick(options.mask, ("mask", "annotation", "segmentation", "label"), "mask")
        parts = divide(rows, options)
        made: dict[str, tuple[Tensor, Tensor]] = {}
        size = None if options.size is None else (options.size[0], options.size[1])
        for split, part in parts.items():
            found = [pictures.decode(*each) for each in part.files(column)]
            size = size or _common_size(found, part)
            masks = [pictures.to_numbers(pictures.decode(value, name), size, name) for value, name in part.files(mask)]
            seen = [pictures.to_size(each, size, options.channels) for each in found]
            made[split] = torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(masks)).long()
        classes = _classes(made["train"][1], options)
        for split, (_, masks) in made.items():
            _check(masks, len(classes), options.ignored or [], parts[split].where)
            for value in options.ignored or ():
                masks[masks == value] = IGNORED
        mean, std = pictures.moments(made["train"][0], options.mean, options.std)
        facts = {"classes": len(classes), "channels": options.channels, "image": options.crop or max(size or (1,))}
        self = cls(options, {"classes": classes, "mean": mean, "std": std, "size": size, "facts": facts})
        self.parts = made
        return self

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.state["classes"]
        return names

    def size(self, split: str) -> int:
        """How many pictures a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, C, Y, X) and `labels` (B, Y, X), -100 where nothing counts; windows of them where `train`."""
        rows = indices_of(indices, self.size(split), split)
        found, labels = (part[rows] for part in self.parts[split])
        inputs, options = self._normal(found), self.options
        if train and (options.crop or options.zoom or options.flip):
            whole = inputs.shape[2], inputs.shape[3]
            low, high = options.zoom or (1.0, 1.0)
            size = (options.crop, options.crop) if options.crop else whole
            moves = Moves(rows, seed, size=size, of=whole, zoom=(low, high), flip=options.flip)
            inputs, labels = moves.pictures(inputs), moves.maps(labels, IGNORED)
        return {"inputs": inputs, LABELS: labels}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of each pixel, with Dice where it is asked for."""
        return spec(PixelClasses, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Mean intersection over union, the share of pixels that are right, and cross entropy (nats) over all pixels."""
        digest, count = Digest(), len(self.classes)
        table = torch.zeros(count, count, dtype=torch.long)
        loss, shown = 0.0, []
        height, width = self.parts[split][1].shape[1:] if self.size(split) else (1, 1)
        every = max(1, self.size(split) // 8)
        for indices, tensors, given in self.answers(model, split, affordable(batch, count * height * width)):
            labels = tensors[LABELS]
            if given.shape[1] != count:
                raise DoesNotFit(
                    f"the model answers with {given.shape[1]} classes and the data has {count}; "
                    f"build the design with classes={count}",
                    "head",
                )
            logits = resized(given, (height, width))
            loss += float(F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED).double().sum())
            said = logits.argmax(1)
            for row, index in enumerate(indices):
                digest.add(self.parts[split][0][index], labels[row])
                own = confusion(said[row], labels[row], count)
                table += own
                if index % every == 0:
                    shown.append(self._example(split, index, said[row], labels[row], own))
        shown.sort(key=lambda each: -each["accuracy"])
        half = (len(shown) + 1) // 2
        figures = {"miou": mean_iou(table), "accuracy": _right(table), "loss": loss / max(int(table.sum()), 1)}
        return Score(figures, self.size(split), str(digest), {"right": shown[:half], "wrong": shown[half:][::-1]})

    def baseline(self, split: str) -> dict[str, Any]:
        """The mIoU of always answering with the commonest class of the training part."""
        labels = self.parts[split][1]
        train = self.parts["train"][1]
        common = int(train[train != IGNORED].bincount().argmax())
        table = confusion(torch.full_like(labels, common), labels, len(self.classes))
        return {"name": f"always '{self.classes[common]}', the commonest class", self.metric: mean_iou(table)}

    def _example(self, split: str, index: int, said: Tensor, truth: Tensor, table: Tensor) -> dict[str, Any]:
        """The picture, the truth and the answer side by side."""
        picture = self.parts[split][0][index].numpy()
        rows = np.broadcast_to(picture.transpose(1, 2, 0), (*picture.shape[1:], 3))
        colours = [pictures.coloured(each.numpy()) for each in (truth, said)]
        strip = np.concatenate([rows, *colours], 1).transpose(2, 0, 1)
        return {
            "input": data_uri(strip), "expected": self._told(truth), "answer": self._told(said),
            "accuracy": _right(table),
        }  # fmt: skip

    def _told(self, numbers: Tensor) -> str:
        """The classes of a map, those with most pixels first."""
        share = numbers[numbers != IGNORED].bincount(minlength=len(self.classes)) / max(numbers.numel(), 1)
        largest = [i for i in share.argsort(descending=True).tolist() if share[i] >= 0.005]
        return ", ".join(f"{self.classes[i]} {share[i]:.0%}" for i in largest)

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `mask` of each raw picture, uint8 and as large as it, and what part of it each class has."""
        answers: list[dict[str, Any]] = []
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                numbers = self._mask(model, picture, device)
                answers.append({"text": self._told(torch.from_numpy(numbers).long()), "mask": numbers})
        return answers

    def _mask(self, model: nn.Module, picture: Any, device: torch.device) -> np.ndarray:
        batch = self.prepare([picture])["inputs"].to(device)
        side = self.options.tile or max(batch.shape[2:])
        logits = tiled(lambda window: model(window).float(), batch, side, max(side // 2, 1))
        return resized(logits, (picture.height, picture.width)).argmax(1)[0].cpu().numpy().astype(np.uint8)

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """NAME.png with the number of the class of each pixel, and NAME_overlay.png to look at; gives the files."""
        from PIL import Image

        written = []
        for name, given, answer in zip(pictures.names(inputs), inputs, answers, strict=True):
            picture = np.asarray(pictures.decode(given).convert("RGB"))
            blend = (picture * 0.5 + pictures.coloured(answer["mask"]) * 0.5).astype(np.uint8)
            for suffix, array in (("", answer["mask"]), ("_overlay", blend)):
                Image.fromarray(array).save(folder / f"{name}{suffix}.png")
                written.append(f"{name}{suffix}.png")
        return written

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Paths, bytes, arrays or PIL pictures as (B, C, Y, X); as large as they are where `size` is not given."""
        found = [pictures.decode(each) for each in inputs]
        size = tuple(self.options.size) if self.options.size else (found[0].height, found[0].width)
        arrays = [pictures.to_size(each, size, self.options.channels) for each in found]
        return {"inputs": self._normal(torch.from_numpy(np.stack(arrays)))}

    def _normal(self, chosen: Tensor) -> Tensor:
        return pictures.normalise(chosen, self.state["mean"], self.state["std"])


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


def _common_size(found: Sequence[Any], part: Rows) -> tuple[int, int]:
    sizes = {(each.height, each.width) for each in found}
    if len(sizes) > 1:
        (low, narrow), (high, wide) = min(sizes), max(sizes)
        raise BadInput(
            f"the pictures of {part.where} are of several sizes, from {low}x{narrow} to {high}x{wide} (height x width); "
            f"say what to bring them to: data.size=[{low}, {narrow}]"
        )
    return sizes.pop()


def _classes(train: Tensor, options: Options) -> list[str]:
    """The names of the classes: given, or numbers up to the highest in the training masks."""
    if isinstance(options.classes, list):
        return list(options.classes)
    real = train[~torch.isin(train, torch.tensor(options.ignored or [], dtype=torch.long))]
    return [str(i) for i in range(options.classes or int(real.max()) + 1)]


def _check(masks: Tensor, count: int, ignored: Sequence[int], where: str) -> None:
    """Refuse a mask with a value that is no class."""
    wrong = (masks >= count) & ~torch.isin(masks, torch.tensor(list(ignored), dtype=torch.long))
    if wrong.any():
        row = int(wrong.flatten(1).any(1).nonzero()[0])
        raise BadInput(
            f"mask {row} of {where} has the value {int(masks[wrong][0])}, and there are {count} classes (0 to {count - 1}); "
            "name it in data.ignored=[...] if it is void, or give data.classes"
        )
