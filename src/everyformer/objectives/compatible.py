"""Vectors that older ones can be compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import DoesNotFit, EveryformerError
from everyformer.objectives.base import LABELS, Loss, Objective, answer, noted
from everyformer.objectives.classes import check_classes, class_loss
from everyformer.registry import part


@part("objectives")
class BackwardCompatible(Objective):
    """Classes, and vectors near to those of two frozen models (Zhou et al., BT^2, 2023, their code).

    CE + `old` (1 - cos to the old model's vector) + `new` (1 - cos to that of a new one trained for its own task alone). The
    model has a head that notes both, as `heads.BasisTransforms`.
    """

    def __init__(self, *, old: float = 10.0, new: float = 1.0, smoothing: float = 0.0) -> None:
        super().__init__()
        self.old, self.new, self.smoothing = old, new, smoothing
        self._models: list[nn.Module] = []

    def teach(self, old: nn.Module, new: nn.Module) -> None:
        """Set the frozen models, which answer a batch with a vector for each sample."""
        self._models = [each.eval().requires_grad_(False) for each in (old, new)]

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        if not self._models:
            raise EveryformerError("BackwardCompatible has no models to be near to; call objective.teach(old, new)")
        otherwise = "the head notes no vectors; use heads.BasisTransforms"
        _, notes = noted(model, batch, "old", "new", "labels", otherwise=otherwise)
        check_classes(batch[LABELS], notes["labels"].shape[-1])
        losses = class_loss(notes["labels"].float(), batch[LABELS], self.smoothing)
        for name, share, frozen in zip(("old", "new"), (self.old, self.new), self._models):
            with torch.no_grad():
                wanted = answer(frozen, batch)
            losses = losses + share * _apart(notes[name], wanted, name)
        return Loss(losses.sum(), torch.tensor(len(losses), device=losses.device))


def _apart(ours: Tensor, wanted: Tensor, name: str) -> Float[Tensor, " B"]:
    if ours.shape != wanted.shape:
        raise DoesNotFit(f"the {name} model answers {tuple(wanted.shape)}, and the head {tuple(ours.shape)}", "head")
    return 1 - F.cosine_similarity(ours.float(), wanted.float(), dim=-1)
