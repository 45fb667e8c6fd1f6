"""A model of which the head alone learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from everyformer.context import Context
from everyformer.models.model import Model
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("models")
class FixedBody(Model):
    """A Model whose embedding and backbone stay as they are: no gradient reaches them, and they are always in use, never
    in training, so that dropout is off and running statistics do not move.
    """

    def train(self, mode: bool = True) -> Self:
        """The head in training or in use."""
        super().train(mode)
        self.embedding.eval()
        self.backbone.eval()
        return self

    def body(self, inputs: Tensor, context: Context, fields: Mapping[str, Any]) -> Tokens:
        """The tokens of raw `inputs` after the backbone."""
        with torch.no_grad():
            return super().body(inputs, context, fields)
