"""Audio classification."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from everyformer.data import sounds
from everyformer.data.classification import ClassTask
from everyformer.data.draws import uniform
from everyformer.data.labels import fit_classes, labels_of
from everyformer.data.sources import Rows, Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import data_uri, indices_of, task
from everyformer.errors import BadInput, EveryformerError
from everyformer.objectives.base import LABELS


@dataclass(kw_only=True)
class Options(Where):
    """The `data` section of audio classification."""

    input: str | None = None
    """The column of the sounds."""
    label: str | None = None
    """The column of the classes."""
    classes: int | list[str] | None = None
    """How many classes, or their names; found in the data where not given."""
    rate: int = 16000
    """Samples a second that sounds are brought to."""
    mels: int = 128
    """Mel bands."""
    frames: int = 1024
    """Frames of a spectrogram: longer sounds are cut to their middle, shorter ones filled with silence."""
    hop: float = 10.0
    """Milliseconds from frame to frame."""
    window: float = 25.0
    """Milliseconds that a frame looks at."""
    shift: int = 0
    """Augmentation: frames that a sound is moved by, at most."""
    mask_mels: int = 0
    """Augmentation: bands hidden at most (SpecAugment, Park et al., 2019)."""
    mask_frames: int = 0
    """Augmentation: frames hidden at most."""
    broken: Literal["error", "skip"] = "error"
    """What to do with a sound that cannot be read."""


@task
class AudioClassification(ClassTask):
    """Sounds into classes, as log-mel spectrograms (B, T, F) that are computed once and kept in memory."""

    name: ClassVar[str] = "audio-classification"
    Options: ClassVar[type[Where]] = Options
    parts: dict[str, tuple[Tensor, Tensor]]
    keys: dict[str, list[bytes]]

    def __init__(self, options: Any, state: dict[str, Any]) -> None:
        super().__init__(options, state)
        self.window, self.hop = (max(1, round(ms * options.rate / 1000)) for ms in (options.window, options.hop))
        size = 2 ** math.ceil(math.log2(self.window))
        self.filters = sounds.mel_filters(options.mels, size // 2 + 1, options.rate)
        if bool((self.filters.sum(1) == 0).any()):
            raise EveryformerError(
                f"data.mels={options.mels} bands are finer than a window of {options.window:g} ms at {options.rate} Hz "
                "can tell apart; lower data.mels or raise data.window"
            )

    @classmethod
    def read(cls, options: Any) -> Self:
        """Compute all spectrograms; their mean and deviation are those of the training part."""
        rows = read_rows(options)
        column = rows["train"].pick(options.input, ("audio", "sound", "file", "path"), "input")
        label = rows["train"].pick(options.label, ("label", "labels", "class", "target"), "label")
        parts = divide(rows, options, label)
        classes = fit_classes(parts["train"], label, options.classes)
        labels = labels_of(parts, label, classes)
        self = cls(options, {"classes": classes})
        self.facts = self.state["facts"] = {"classes": len(classes), "mels": options.mels, "frames": options.frames}
        found = {split: self._spectrograms(part, column) for split, part in parts.items()}
        frames = torch.cat([each for each, _, _ in found["train"]])
        self.state["mean"], self.state["std"] = float(frames.mean()), float(frames.std())
        self.parts, self.keys = {}, {}
        for split, kept in found.items():
            pictures = torch.stack([self._normal(each) for each, _, _ in kept])
            self.parts[split] = pictures, torch.tensor([labels[split][row] for _, _, row in kept])
            self.keys[split] = [key for _, key, _ in kept]
        return self

    def _spectrograms(self, part: Rows, column: str) -> list[tuple[Tensor, bytes, int]]:
        values = part.files(column)
        found, first = [], None
        for row, (value, name) in enumerate(values):
            try:
                samples = sounds.decode(value, self.options.rate, name)
                found.append((self._spectrogram(samples), hashlib.sha256(samples.tobytes()).digest(), row))
            except BadInput as error:
                first = first or error
                if self.options.broken == "error":
                    raise BadInput(f"{error}, or set data.broken=skip (row {row} of {len(values)})") from None
        if not found:
            raise BadInput(f"none of the {len(values)} sounds of {part.where} can be read; the first: {first}")
        return found

    def _spectrogram(self, samples: np.ndarray) -> Tensor:
        return sounds.log_mel(samples, self.filters, self.window, self.hop)

    def _normal(self, spectrogram: Tensor) -> Tensor:
        fitted = sounds.fit(spectrogram, self.options.frames, math.log(sounds.FLOOR))
        return (fitted - self.state["mean"]) / self.state["std"]

    @property
    def silence(self) -> float:
        """What silence is after normalisation."""
        return float((math.log(sounds.FLOOR) - self.state["mean"]) / self.state["std"])

    def size(self, split: str) -> int:
        """How many sounds a part has."""
        return len(self.parts[split][1]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, T, F), time first, and `labels` (B,); augmented where `train`."""
        rows = indices_of(indices, self.size(split), split)
        found, labels = self.parts[split]
        chosen = found[rows]
        return {"inputs": self._augment(chosen, rows, seed) if train else chosen, LABELS: labels[rows]}

    def _augment(self, chosen: Tensor, rows: list[int], seed: int) -> Tensor:
        options = self.options
        drawn = uniform(seed, rows, 5)
        frames, mels = torch.arange(chosen.shape[1]), torch.arange(chosen.shape[2])
        if options.shift:
            moved = frames - (drawn[:, :1] * (2 * options.shift + 1)).long() + options.shift
            inside = (moved >= 0) & (moved < len(frames))
            chosen = chosen.gather(1, moved.clamp(0, len(frames) - 1)[..., None].expand_as(chosen))
            chosen = torch.where(inside[..., None], chosen, self.silence)
        for most, line, at, shape in ((options.mask_frames, frames, 1, (-1, len(frames), 1)),
                                      (options.mask_mels, mels, 3, (-1, 1, len(mels)))):  # fmt: skip
            if most:
                length = (drawn[:, at : at + 1] * (most + 1)).long()
                start = (drawn[:, at + 1 : at + 2] * (len(line) - length + 1)).long()
                hidden = (line >= start) & (line < start + length)
                chosen = chosen.masked_fill(hidden.view(shape), 0.0)
        return chosen

    def raw(self, split: str, index: int) -> tuple[Any, ...]:
        """The hash of the sound."""
        return (self.keys[split][index],)

    def show(self, split: str, index: int) -> str:
        """The spectrogram as a picture, low bands below."""
        values = self.parts[split][0][index].T.flip(0)
        bright = ((values - values.min()) / (values.max() - values.min()).clamp(min=1e-6) * 255).byte()
        return data_uri(bright[None].numpy())

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Paths, bytes or (samples, rate) as (B, T, F)."""
        return {
            "inputs": torch.stack(
                [self._normal(self._spectrogram(sounds.decode(each, self.options.rate))) for each in inputs]
            )
        }
