"""Linear probes: what can be read off a place of a model by a linear map (Alain and Bengio, 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Probe:
    """A linear map from values to classes."""

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]

    @classmethod
    def fit(cls, values: Float[Tensor, "B D"], labels: Int[Tensor, " B"], strength: float = 1e-3) -> Probe:
        """Ridge regression onto the classes, in closed form; `strength` is relative to the mean variance of a channel."""
        mean = values.double().mean(0)
        centred = values.double() - mean
        target = torch.nn.functional.one_hot(labels).double()
        share = target.mean(0)
        gram = centred.mT @ centred
        ridge = strength * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram + ridge, centred.mT @ (target - share)).mT
        return cls(weight.to(values.dtype), (share - weight @ mean).to(values.dtype))

    def __call__(self, values: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """A score for each class."""
        return values @ self.weight.mT + self.bias

    def accuracy(self, values: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> float:
        """The share of values whose best class is theirs."""
        return float((self(values).argmax(-1) == labels).double().mean())
