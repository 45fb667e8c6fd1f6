"""Attention whose keys and values are made of other tokens than its queries, which stand at the same places."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens
from everyformer.units import Units


@part("mixers")
class PairedAttention(Attention):
    """Queries of the tokens, keys and values of the memory `memory`, which has a token for each of them (Fleuret, The Free
    Transformer, 2025, algorithm 2: a block of `in_q` and `in_kv`).

    Where the context holds no such memory it is attention of the tokens over themselves.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        memory: str = "pair",
        bias: bool = True,
        output_bias: bool | None = None,
        positions: Spec[Position] | None = None,
        query_key_norm: Spec[Norm] | None = None,
        mask: Mask = Full(),  # noqa: B008
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, key_heads=key_heads, head_width=head_width, bias=bias, output_bias=output_bias,
            positions=positions, query_key_norm=query_key_norm, mask=mask, dropout=dropout,
        )  # fmt: skip
        self.memory = memory
        del self.qkv
        self.query = nn.Linear(width, self.sizes[0], bias=bias)
        self.key_value = nn.Linear(width, sum(self.sizes[1:]), bias=bias)

    def units(self) -> Units:
        """Its heads."""
        return self.head_units(query=self.sizes[:1], key_value=self.sizes[1:])

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those of the memory that it may see."""
        pair = None if context is None else context.memory.get(self.memory)
        other = tokens.values if pair is None else pair.values
        return super().forward(tokens.update(torch.cat((tokens.values, other), -1)), context)

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """Queries of the first half of the channels, keys and values of the second."""
        own, other = tokens.values.chunk(2, -1)
        return torch.cat((self.query(own), self.key_value(other)), -1)
