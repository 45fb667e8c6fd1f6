"""Evidence for models that listen to raw sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import everyformer as ef
from everyformer.data.draws import uniform
from everyformer.data.tasks.audio import AudioClassification
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.others import spectrograms
from everyformer.evidence.pretrained import carried, compared, fit
from everyformer.objectives import Classification, HiddenCodes
from everyformer.recipe import load_recipe

SAMPLES = 4000
"""Half a second."""
LABELS = 200
SEEDS = 2
SIZE = {
    "width": 64, "hidden": 128, "depth": 2, "heads": 4, "convs": (32, 64, 64), "kernels": (20, 8, 8),
    "strides": (10, 4, 4), "samples": SAMPLES, "layered": True, "pre_norm": False, "places": 16, "groups": 4,
    "dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip


class Waves(AudioClassification):
    """Spoken digits as samples (B, T) and which of them are real; of longer ones the middle."""

    @classmethod
    def read(cls, options: Any) -> Self:
        """The recordings, those to train on in an order of chance: the first ones are of all digits."""
        self = super().read(options)
        inputs, labels = self.parts["train"]
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        self.parts["train"] = inputs[order], labels[order]
        self.keys["train"] = [self.keys["train"][row] for row in order.tolist()]
        return self

    def _spectrogram(self, samples: np.ndarray) -> Tensor:
        """The samples themselves."""
        return torch.from_numpy(samples)

    def _normal(self, samples: Tensor) -> Tensor:
        """Of mean 0 and deviation 1, and nothing where there is no sound."""
        first = max(len(samples) - SAMPLES, 0) // 2
        cut = samples[first : first + SAMPLES]
        return F.pad((cut - cut.mean()) / cut.std().clamp(min=1e-6), (0, SAMPLES - len(cut)), value=torch.nan)

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs`, `mask` and `labels`."""
        drawn = super().batch(split, indices, train=train, seed=seed)
        return {**drawn, "inputs": drawn["inputs"].nan_to_num(), "mask": drawn["inputs"].isfinite()}

    def _augment(self, chosen: Tensor, rows: list[int], seed: int) -> Tensor:
        """Moved as far as the recipe moves its frames; silence comes before, nothing after."""
        reach = self.options.shift * self.hop
        moved = torch.arange(SAMPLES) - (uniform(seed, rows, 1) * (2 * reach + 1)).long() + reach
        shifted = chosen.gather(1, moved.clamp(0, SAMPLES - 1))
        return shifted.masked_fill(moved < 0, 0.0).masked_fill(moved >= SAMPLES, torch.nan)

    def show(self, split: str, index: int) -> str:
        """Nothing: samples are no picture."""
        return ""


def spoken() -> Waves:
    """The recordings of the spoken_digits recipe."""
    return Waves.open(**load_recipe("spoken_digits").data)


def classifier(seed: int) -> Any:
    """wav2vec 2.0 with one class read from the mean frame."""
    head = ef.spec(ef.heads.ClassHead, classes=10, pool=ef.spec(ef.heads.Mean))
    return ef.design("wav2vec2", **SIZE).set("head", head).build(seed=seed)


def accuracy(model: Any, data: Waves) -> float:
    """On the test recordings."""
    return float(data.evaluate(model.eval(), "test").metrics["accuracy"])


@evidence(
    "wav2vec2",
    kind="learns",
    claim="From raw samples it tells spoken digits apart, more of them than logistic regression on spectrograms.",
)
def wav2vec2_learns() -> Finding:
    """1,500 steps of 128 recordings, half a second each, with labels from the start."""
    data = spoken()
    model = classifier(seed=0)
    fit(model, Classification(smoothing=0.1), data, data.size("train"), 1500, 0)
    ours, baseline = accuracy(model, data), spectrograms()
    figures = {"wav2vec2": ours, "logistic regression": baseline}
    return Finding(verdict(ours > baseline), f"{ours:.4f} against {baseline:.4f}", figures)


@evidence(
    "wav2vec2",
    kind="claim",
    claim=f"With {LABELS} labelled spoken digits, pretraining on all recordings without labels is above training from scratch.",
)
def wav2vec2_is_worth_it() -> Finding:
    """300 steps in which a fifth of the frames begin hidden stretches of 3, 2 books of 32 codes; then 120 steps with labels."""
    data = spoken()
    every = data.size("train")
    figures: dict[str, list[float]] = {"pretrained": [], "from scratch": []}
    for seed in range(SEEDS):
        first = ef.create("wav2vec2", vocabulary=None, codes=32, code_width=32, output=32, seed=seed, **SIZE)
        fit(first, HiddenCodes(negatives=20, share=0.2, length=3), data, every, 300, seed)
        for name in figures:
            tuned = classifier(seed)
            if name == "pretrained":
                carried(tuned, first)
            fit(tuned, Classification(), data, LABELS, 120, seed)
            figures[name].append(accuracy(tuned, data))
    return compared(figures)
