"""Language modelling on text that is larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from everyformer.data.sources import SPLITS, Where
from everyformer.data.splits import shares
from everyformer.data.streams import Windows, front, shards_of, windows_of
from everyformer.data.task import Digest, indices_of, task
from everyformer.data.tasks.language import LanguageModelling
from everyformer.data.tasks.language import Options as InMemory
from everyformer.errors import EveryformerError
from everyformer.objectives.base import IGNORED, LABELS


@dataclass(kw_only=True)
class Options(InMemory):
    """The `data` section of language modelling on streams.

    `path` holds text files and JSON lines; `train`, `valid` and `test` may be patterns, such as 'part-*.jsonl'.
    """

    sample: int = 2**24
    """Characters, from the front of every training file, that the vocabulary is learnt from."""
    index: str | None = None
    """The folder where the index of the windows is kept; ~/.cache/everyformer by default."""


@task
class StreamedLanguageModelling(LanguageModelling):
    """Text into the next token, from files of any size: an epoch takes every window of every file once."""

    name: ClassVar[str] = "streamed-language-modelling"
    Options: ClassVar[type[Where]] = Options
    windows: dict[str, Windows]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Learn the vocabulary from the front of the files, and index where each window begins."""
        shards = shards_of(options, options.input)
        self = cls(options, {})
        self.learn(list(front(shards["train"], options.sample)))
        self.facts = self.state["facts"] = {"vocabulary": self.vocabulary.size, "length": options.length}
        folder = Path(options.index) if options.index else None
        found = {split: windows_of(each, self.vocabulary, options.length, folder) for split, each in shards.items()}
        self.windows = {split: part.part(0, options.limit or len(part)) for split, part in _divided(found, options)}
        for split, part in self.windows.items():
            if not len(part):
                raise EveryformerError(
                    f"the '{split}' part has no window of data.length={options.length} tokens; give more text, lower "
                    "data.length, or change data.fractions"
                )
        return self

    def size(self, split: str) -> int:
        """How many windows cover a part."""
        windows: dict[str, Windows] = getattr(self, "windows", {})
        return len(windows[split]) if split in windows else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, N) and `labels` (B, N), the token after each; the same windows in training and in scoring."""
        length = self.options.length
        taken = np.full((len(indices), length + 1), IGNORED)
        for row, index in enumerate(indices_of(indices, self.size(split), split)):
            ids = self.windows[split][index]
            taken[row, : len(ids)] = ids
        found = torch.from_numpy(taken)
        return {"inputs": found[:, :-1].clamp(min=0), LABELS: found[:, 1:].clone()}

    def digest(self, split: str) -> Digest:
        """The hash of the windows of a part."""
        digest = Digest()
        for index in range(self.size(split)):
            digest.add(self.windows[split][index])
        return digest


def _divided(found: dict[str, Windows], options: Any) -> list[tuple[str, Windows]]:
    """The parts that have no files of their own are taken from the end of the training windows."""
    _, *others = shares(options, (0.9, 0.1, 0.0))
    wanted = {split: share for split, share in zip(SPLITS[1:], others, strict=True) if share and split not in found}
    whole = found["train"]
    last = len(whole)
    for split, share in reversed(wanted.items()):
        first = last - round(len(whole) * share)
        found[split], last = whole.part(first, last), first
    found["train"] = whole.part(0, last)
    return [(split, found[split]) for split in SPLITS if split in found]
