"""A model of which the head alone learns."""

from __future__ import annotations

from typing import Self

from torch import nn

from everyformer.models.model import Model
from everyformer.models.starts import Start
from everyformer.registry import part
from everyformer.specs import Spec


@part("models")
class FixedBody(Model):
    """A Model whose embedding and backbone stay as they are: their weights take no gradient, and they are always in use,
    never in training, so that dropout is off and running statistics do not move.
    """

    def begin(self, start: Spec[Start]) -> None:
        """Give all weights their first values; those of the body keep them."""
        super().begin(start)
        for each in self.frozen:
            each.requires_grad_(False)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """What stays."""
        return self.embedding, self.backbone

    def train(self, mode: bool = True) -> Self:
        """The head in training or in use."""
        super().train(mode)
        for each in self.frozen:
            each.eval()
        return self
