"""Attention that is the difference of two: what both attend to by accident cancels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class DifferentialAttention(Attention):
    """(softmax(Q_1 K_1^T) - l softmax(Q_2 K_2^T)) V, each pair of heads normalised (Ye et al., Differential Transformer, 2025, eq. 1 to 3).

    Head i and head i + heads / 2 are a pair, with the values of both side by side. l = e^{a b} - e^{c d} + `initial` with
    learned vectors a to d, one l for all pairs; 1 - `initial` multiplies the answer.
    """

    capabilities = Attention.capabilities - {"attended"}

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = False,
        positions: Spec[Position] | None = None,
        query_key_norm: Spec[Norm] | None = None,
        mask: Mask = Full(),  # noqa: B008
        initial: float = 0.8,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(
            width, heads=heads, key_heads=key_heads, head_width=head_width, bias=bias, positions=positions,
            query_key_norm=query_key_norm, mask=mask,
        )  # fmt: skip
        if self.heads % 2 or self.key_heads % 2:
            raise ValueError(f"heads come in pairs; given {self.heads} and {self.key_heads} for keys")
        self.initial, self.eps = initial, eps
        self.vectors = nn.Parameter(torch.randn(4 * self.head_width) * 0.1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        paired = torch.cat(value.chunk(2, 1), -1).repeat(1, 2, 1, 1)
        first, second = super()._attend(query, key, paired, sight, context).chunk(2, 1)
        a, b, c, d = self.vectors.float().chunk(4)
        strength = (a * b).sum().exp() - (c * d).sum().exp() + self.initial
        mixed = first - strength.to(first.dtype) * second
        mixed = F.rms_norm(mixed, mixed.shape[-1:], eps=self.eps)
        return mixed * (1 - self.initial)
