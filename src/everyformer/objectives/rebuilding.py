"""How well a model rebuilds what it was given."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from everyformer.objectives.base import Loss, Objective, noted
from everyformer.registry import part


@part("objectives")
class Rebuilding(Objective):
    """The error of each sample that the head notes, and what the model's parts say beside it. Takes no labels; counted by
    samples.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The errors summed over the samples."""
        _, notes = noted(model, batch, "error", otherwise="the head notes no error; use heads.Rebuilt")
        error = notes["error"]
        return Loss(error.sum(), torch.tensor(len(error), device=error.device))
