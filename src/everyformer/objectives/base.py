"""What every objective is: a sum and a count, never a mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.auxiliary import listening
from everyformer.context import Context
from everyformer.errors import DoesNotFit
from everyformer.registry import Part

IGNORED = -100
"""The label of a position that counts for nothing."""

LABELS = "labels"
"""The key of a batch that the model is not given."""


@dataclass
class Loss:
    """A loss summed over what it counts (samples, tokens, values), and how many those are.

    The gradient of a step is the sum of the totals over the sum of the counts, over all its micro-batches and devices.
    """

    total: Tensor
    count: Tensor


class Objective(Part):
    """Base of objectives: `forward(model, batch)` gives a Loss.

    Called, it adds what parts of the model say of themselves (`auxiliary.Auxiliary`), once for each thing counted.
    """

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss of a batch, with those of the model's parts."""
        with listening(model) as said:
            loss: Loss = super().__call__(model, batch)
        return Loss(loss.total + loss.count * torch.stack(said).sum(), loss.count) if said else loss

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss of a batch."""
        raise NotImplementedError


def answer(model: nn.Module, batch: Mapping[str, Any]) -> Any:
    """What the model says to a batch, its labels kept from it."""
    return model(**{name: value for name, value in batch.items() if name != LABELS})


def noted(model: nn.Module, batch: Mapping[str, Any], *names: str, otherwise: str) -> tuple[Any, dict[str, Tensor]]:
    """What the model says to a batch, and what it notes beside; a head that does not note all `names` is refused, with what to
    do `otherwise`.
    """
    notes: dict[str, Tensor] = {}
    said = answer(model, {**batch, "context": Context(notes=notes)})
    if not notes.keys() >= {*names}:
        raise DoesNotFit(otherwise, "head")
    return said, notes
