"""Attention that asks again with its own answer until the answer stays."""

from __future__ import annotations

import torch
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attend import attend
from everyformer.mixers.attention import Attention
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class FixedPointAttention(Attention):
    """Z <- (1 - a) Z + a softmax(Z K^T / sqrt(K)) V from the queries on (Mathur et al., Change of Thought, 2025).

    At most `iterations` times; each token by itself stops where its answer moves by less than `tolerance` of its length.
    The gradient is that of the last application alone, at the point where it stands (phantom gradient); that one is
    what taps see.
    """

    capabilities = Attention.capabilities - {"attended"}

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        bias: bool = True,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        iterations: int = 10,
        tolerance: float = 1e-3,
        damping: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, positions=positions, mask=mask, dropout=dropout)
        if iterations < 1:
            raise ValueError(f"iterations is at least 1; given {iterations}")
        self.iterations, self.tolerance, self.damping = iterations, tolerance, damping

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        def damped(z: Tensor, seen: Tensor) -> Tensor:
            return seen if self.damping == 1 else (1 - self.damping) * z + self.damping * seen

        with torch.no_grad():
            z, moving = query.detach(), torch.ones_like(query[..., :1], dtype=torch.bool)
            for _ in range(self.iterations - 1):
                seen = attend(z, key, value, lowered=sight.lowered, scale=self.scale, bias=sight.bias, mass=sight.mass)
                after = damped(z, seen)
                gap = (after - z).norm(dim=-1, keepdim=True)
                z = torch.where(moving, after, z)
                moving = moving & (gap > self.tolerance * after.norm(dim=-1, keepdim=True))
        last = z + (query - query.detach())
        return damped(last, super()._attend(last, key, value, sight, context))
