"""Norms that a condition shifts, scales and gates."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from everyformer.context import Context
from everyformer.contracts import Layer, Norm, Residual
from everyformer.errors import BadInput
from everyformer.norms.normalisers import LayerNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("norms")
class AdaptivePreNorm(Residual):
    """x + g f(norm(x) (1 + s) + b) with s, b, g linear in the condition, zero at the start (Peebles and Xie, DiT, 2023).

    The condition stands in the context: (B, D) for a sample or (B, N, D) for each token.
    """

    capabilities = frozenset({"condition"})

    def __init__(
        self,
        width: int,
        *,
        norm: Spec[Norm] = spec(LayerNorm, affine=False),  # noqa: B008
        condition_width: int | None = None,
    ) -> None:
        super().__init__()
        self.norm: nn.Module = self.make("norm", norm, width)
        self.modulation = nn.Linear(condition_width or width, 3 * width)
        self.modulation.own_init = True  # type: ignore[assignment]
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens with the gated update added."""
        condition = context.condition
        if condition is None:
            raise BadInput("AdaptivePreNorm needs a condition; pass Context(condition=tensor of (B, D) or (B, N, D))")
        if condition.dim() == 2:
            condition = condition[:, None]
        shift, scale, gate = self.modulation(F.silu(condition)).chunk(3, -1)
        update = layer(tokens.update(self.norm(tokens.values) * (1 + scale) + shift))
        return tokens.update(tokens.values + gate * update)
