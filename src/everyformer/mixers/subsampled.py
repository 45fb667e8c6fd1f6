"""Attention that is trained on a random part of the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class SubsampledAttention(Attention):
    """In training all queries look at the same random `share` of the keys, drawn for each pass (Hussain et al., SSA, 2023, 3.2).

    That is attention with the other columns left out before softmax, for `share` of the cost; in evaluation it is
    attention to all. A query that sees none of the chosen keys takes nothing.
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
        share: float = 0.25,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, positions=positions, mask=mask, dropout=dropout)
        if not 0 < share <= 1:
            raise ValueError(f"a share is above 0 and at most 1; given {share}")
        self.share = share

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        if not self.training or self.share == 1:
            return super()._attend(query, key, value, sight, context)
        count = max(round(self.share * key.shape[2]), 1)
        chosen = torch.rand(key.shape[2], device=key.device, generator=context.generator).topk(count).indices.sort()[0]
        sight = sight.along(lambda said: said[..., chosen], query)
        return super()._attend(query, key[:, :, chosen], value[:, :, chosen], sight, context)
