"""Attention by the cosine of queries and keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, Position
from everyformer.mixers.attend import Taps, attend, lower
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class CosineAttention(Mixer):
    """softmax(cos(q, k) / t + bias) v with a learned t >= 0.01 for each head (Liu et al., Swin V2, 2022, equation 2).

    Keys have no shift, as in the official code.
    """

    capabilities = frozenset({"causal", "masked", "padding"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        bias: bool = True,
        positions: Spec[Position] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.head_width, self.dropout = heads, width // heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.value_bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.sharpness = nn.Parameter(torch.full((heads,), math.log(10.0)))
        self.output = nn.Linear(width, width)
        self.positions: Position | None = self.make("positions", positions, width, heads)
        if self.positions is not None:
            self.positions.stands_in("attention")
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those that it may see."""
        context = context or Context()
        query, key, value = self.qkv(tokens.values).chunk(3, -1)
        if self.query_bias is not None and self.value_bias is not None:
            query, value = query + self.query_bias, value + self.value_bias
        query, key, value = (
            x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2) for x in (query, key, value)
        )
        factor = self.sharpness.clamp(max=math.log(100.0)).exp()[:, None, None]
        query, key = F.normalize(query, dim=-1) * factor, F.normalize(key, dim=-1)
        bias, places = None, tokens.places
        if self.positions is not None:
            query, key = (self.positions.rotate(x, places, context) for x in (query, key))
            bias = self.positions.bias(query, places, places, 1.0, context)
        mixed = attend(
            query, key, value, lowered=lower(context.mask, tokens, context), scale=1.0, bias=bias,
            dropout=self.dropout if self.training else 0.0, taps=self.taps,
        )  # fmt: skip
        return self.output(mixed.transpose(1, 2).flatten(2))
