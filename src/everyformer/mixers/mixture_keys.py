"""Attention that scores each position by a mixture of keys."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class MixtureKeys(Attention):
    """Weights sum_r p_r N(q_i; k_j - m_r, sqrt(K) I), normalised over j (Nguyen et al., Transformer-MGK, 2022, eq. 8, 11; its shifted keys).

    `components` keys a position, the first not shifted; shifts m and shares p are learned for each head. It is attention
    over all components as keys of their own with equal values, biased by log p_r - |k|^2 / (2 sqrt(K)).
    """

    capabilities = Attention.capabilities - {"attended"}

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        bias: bool = True,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        components: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, positions=positions, mask=mask, dropout=dropout)
        if components < 1:
            raise ValueError(f"components is at least 1; given {components}")
        self.components = components
        self.shifts = nn.Parameter(torch.randn(components - 1, heads, 1, self.head_width))
        self.shares = nn.Parameter(torch.zeros(components, heads))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        keys = [key, *(key - shift for shift in self.shifts)]
        shares = self.shares.log_softmax(0)[:, None, :, None]
        far = [share - each.square().sum(-1) * (self.scale / 2) for share, each in zip(shares, keys)]
        own = torch.cat(far, -1)[:, :, None]
        sight = sight.along(lambda said: torch.cat((said,) * self.components, -1), query)
        sight = replace(sight, bias=own if sight.bias is None else own + sight.bias)
        return super()._attend(query, torch.cat(keys, 2), value.repeat(1, 1, self.components, 1), sight, context)
