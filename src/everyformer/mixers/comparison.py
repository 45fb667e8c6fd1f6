"""Mixing by comparison with the token before and with the mean of all so far."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.history import shift
from everyformer.mixers.scan import keep, recall
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class CausalComparison(Mixer):
    """max(x_t, x_{t-1}), and with `average` plus the mean of x_1 to x_t (Hilsenbek, Breaking the Attention Bottleneck, 2024).

    It has no parameters. The abstract names a comparison of each token with the one before; the maximum is our reading.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(self, width: int, *, average: bool = True) -> None:
        super().__init__()
        self.average = average

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The larger of each value and the one before, and the mean so far."""
        context = context or Context()
        compared = torch.maximum(tokens.values, shift(self, tokens, context))
        return compared + self.mean(tokens, context) if self.average else compared

    def mean(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        """The mean of the real tokens up to each, those in the cache included."""
        real = torch.ones_like(tokens.values[..., :1]) if tokens.mask is None else tokens.mask[..., None]
        total, count = (tokens.values * real).cumsum(1), real.to(tokens.values.dtype).cumsum(1)
        before = recall(self, context, "total"), recall(self, context, "count")
        if before[0] is not None and before[1] is not None:
            total, count = total + before[0], count + before[1]
        keep(self, context, total=total[:, -1:], count=count[:, -1:])
        return total / count.clamp(min=1)
