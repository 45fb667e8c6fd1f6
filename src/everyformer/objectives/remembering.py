"""Learning with a memory of other samples."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from everyformer.backbones import keeping
from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.objectives.base import LABELS, Loss, Objective
from everyformer.objectives.classes import Classification
from everyformer.registry import part
from everyformer.specs import Spec, spec

IDS = "ids"
"""The key of a batch that says which sample of the data each is."""


@part("objectives")
class Remembered(Objective):
    """`objective` of a model that keeps what it says of samples (`backbones.Remembering`): none is shown what was kept of itself.

    In training the banks hold the samples of a batch, with their labels, once the model has answered.
    """

    def __init__(self, *, objective: Spec[Objective] = spec(Classification)) -> None:  # noqa: B008
        super().__init__()
        self.objective: Objective = self.make("objective", objective)

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss of the objective."""
        ids = batch.get(IDS)
        given = {**{name: each for name, each in batch.items() if name != IDS}, "context": Context(ids=ids)}
        if not self.training:
            return self.objective.forward(model, given)
        if ids is None:
            raise BadInput(f"a memory of samples tells them apart by '{IDS}' (B,); the batch has {', '.join(batch)}")
        with keeping(model, ids, batch.get(LABELS)):
            return self.objective.forward(model, given)
