"""Models of which some parts learn nothing."""

from __future__ import annotations

from typing import Self

from torch import nn

from everyformer.models.model import Model, Root
from everyformer.models.starts import Start
from everyformer.registry import part
from everyformer.specs import Spec


class PartlyFixed(Root):
    """Base: the `frozen` parts stay as they are. Their weights take no gradient, and they are always in use, never in
    training, so that dropout is off and running statistics do not move.
    """

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """What stays."""
        raise NotImplementedError

    def begin(self, start: Spec[Start]) -> None:
        """Give all weights their first values, which the frozen parts keep."""
        super().begin(start)
        for each in self.frozen:
            each.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """What learns in training or in use."""
        super().train(mode)
        for each in self.frozen:
            each.eval()
        return self


@part("models")
class FixedBody(PartlyFixed, Model):
    """A Model whose embedding and backbone stay as they are; its head alone learns."""

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """The embedding and the backbone."""
        return self.embedding, self.backbone
