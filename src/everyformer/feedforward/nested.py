"""Feedforwards whose first hidden units are a feedforward by themselves."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import FeedForward
from everyformer.feedforward.dense import MLP, Gated
from everyformer.registry import part
from everyformer.tokens import Tokens


class _Nested(FeedForward):
    """What stands before a dense feedforward: of its hidden units, only the first `context.share` work."""

    down: Any
    dropout: Any

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        if context is None or context.share == 1.0:
            return super().forward(tokens, context)
        units = max(1, round(self.down.in_features * context.share))
        hidden = self.hidden(tokens.values, units)
        hidden = hidden if self.dropout is None else self.dropout(hidden)
        return F.linear(hidden, self.down.weight[:, :units], self.down.bias)

    def hidden(self, values: Float[Tensor, "B N D"], units: int) -> Float[Tensor, "B N E"]:
        """The first hidden units."""
        raise NotImplementedError


def _first(layer: nn.Linear, values: Tensor, start: int, units: int) -> Tensor:
    end = start + units
    return F.linear(values, layer.weight[start:end], None if layer.bias is None else layer.bias[start:end])


@part("feedforward")
class NestedMLP(_Nested, MLP):
    """W2[:, :m] act(W1[:m] x): an MLP whose first m units are one too (Devvrit et al., MatFormer, 2024, equation 2)."""

    def hidden(self, values: Float[Tensor, "B N D"], units: int) -> Float[Tensor, "B N E"]:
        """The first hidden units."""
        return self.activation(_first(self.up, values, 0, units))


@part("feedforward")
class NestedGated(_Nested, Gated):
    """The same for a gated feedforward: gate and value both keep their first m units (MatFormer, their code)."""

    def hidden(self, values: Float[Tensor, "B N D"], units: int) -> Float[Tensor, "B N E"]:
        """The first hidden units, gated."""
        half = self.down.in_features
        return self.activation(_first(self.up, values, 0, units)) * _first(self.up, values, half, units)
