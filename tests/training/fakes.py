"""A task small enough for tests: name the residue of a ragged sequence's sum, token by token."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyformer.objectives.base import IGNORED, Loss, Objective, answer
from everyformer.recipe import Recipe, Training
from everyformer.specs import Spec, spec

VOCABULARY, LONGEST = 7, 9
SIZES = {"train": 53, "valid": 12, "test": 16}


class TokenLoss(Objective):
    """Cross entropy over tokens that have a label."""

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        labels = batch["labels"]
        logits = answer(model, batch).flatten(0, 1)
        total = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return Loss(total, (labels != IGNORED).sum())


class Poison(TokenLoss):
    """A loss that is no number after so many batches."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        loss = super().forward(model, batch)
        self.left -= 1
        return loss if self.left >= 0 else self.spoilt(loss)

    def spoilt(self, loss: Loss) -> Loss:
        return Loss(loss.total * float("nan"), loss.count)


class Steep(Poison):
    """A loss whose gradient is no number after so many batches."""

    def spoilt(self, loss: Loss) -> Loss:
        return Loss(loss.total + (loss.total * 0).sqrt(), loss.count)


class Score:
    def __init__(self, metrics: dict[str, float], samples: int, hash: str) -> None:
        self.metrics, self.samples, self.hash, self.examples = metrics, samples, hash, {"right": [], "wrong": []}


class Sums:
    """Running sums modulo the vocabulary, of lengths from 1 to 9."""

    name, metric, better, watched = "sums", "accuracy", "max", ("accuracy", "max")
    lanes = None

    def baseline(self, split: str) -> None:
        return None

    def direction(self, figure: str) -> str:
        return self.better

    def settle(self, model: nn.Module) -> bool:
        return False

    def __init__(self) -> None:
        self.facts = {"vocabulary": VOCABULARY, "length": LONGEST}
        random = np.random.default_rng(5)
        self.samples = {
            split: [random.integers(0, VOCABULARY, random.integers(1, LONGEST + 1)) for _ in range(size)]
            for split, size in SIZES.items()
        }

    @classmethod
    def open(cls, **data: Any) -> Self:
        return cls(**data)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        assert (Path(folder) / "task.json").read_text() == "{}"
        return cls()

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "task.json").write_text("{}")

    def size(self, split: str) -> int:
        return len(self.samples[split])

    def costs(self, split: str) -> list[int]:
        return [len(sample) for sample in self.samples[split]]

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        chosen = [self.samples[split][i] for i in indices]
        longest = max(map(len, chosen))
        inputs = torch.zeros(len(chosen), longest, dtype=torch.long)
        mask = torch.zeros(len(chosen), longest, dtype=torch.bool)
        labels = torch.full((len(chosen), longest), IGNORED)
        for row, sample in enumerate(chosen):
            inputs[row, : len(sample)] = torch.from_numpy(sample)
            mask[row, : len(sample)] = True
            labels[row, : len(sample)] = torch.from_numpy(np.cumsum(sample) % VOCABULARY)
        return {"inputs": inputs, "mask": mask, "labels": labels}

    def objective(self, **options: Any) -> Spec[Any]:
        return spec(TokenLoss, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        tensors = self.batch(split, range(self.size(split)))
        with torch.no_grad():
            logits = answer(model, tensors)
        labels = tensors["labels"]
        counted = labels != IGNORED
        right = ((logits.argmax(-1) == labels) & counted).sum().item() / counted.sum().item()
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED).item()
        return Score({"accuracy": right, "loss": loss}, self.size(split), hashlib.sha256(split.encode()).hexdigest())

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [{"input": given, "answer": model(torch.tensor([given]))[0].argmax(-1).tolist()} for given in inputs]

    def describe(self) -> str:
        return "sums: 53 train, 12 valid, 16 test"


class EvenSums(Sums):
    """The same, all of one length, without padding."""

    def __init__(self) -> None:
        super().__init__()
        for split, samples in self.samples.items():
            self.samples[split] = [np.resize(sample, LONGEST - 1) for sample in samples]

    def batch(self, *given: Any, **more: Any) -> dict[str, Tensor]:
        batch = super().batch(*given, **more)
        del batch["mask"]
        return batch


def recipe(**training: Any) -> Recipe:
    """A run of a few seconds; keywords change its `training` section."""
    given = {"steps": 12, "batch": 8, "lr": 3e-3, "precision": "fp32", "threads": 1, "checkpoint_every": 3, **training}
    design = {"system": "gpt", "width": 16, "depth": 2, "heads": 2, "dropout": 0.1}
    return Recipe(name="sums", task="sums", design=design, training=Training(**given))
