"""Attention whose heads can answer with nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.mixers.shapes import share
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class GatedAttention(Attention):
    """sigmoid(G_i(x_i)) times the answer of head i, x_i its slice of the tokens (Bondarenko et al., 2023, section 4.2).

    G_i is linear, one number for each token and head; its bias begins where the gate is `opening`.
    """

    capabilities = Attention.capabilities - {"packed"}

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        bias: bool = True,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        opening: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, positions=positions, mask=mask, dropout=dropout)
        if not 0 < opening < 1:
            raise ValueError(f"a gate opens between 0 and 1; given {opening}")
        slice_width = share("width", width, heads)
        self.gate = nn.Parameter(torch.randn(heads, slice_width) * slice_width**-0.5)
        self.gate_bias = nn.Parameter(torch.full((heads,), opening).logit())

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those that it may see, each head as far as its gate is open."""
        mixed = self._mix(self.qkv(tokens.values), tokens, context or Context())
        slices = tokens.values.unflatten(-1, (self.heads, -1))
        open_ = ((slices * self.gate).sum(-1) + self.gate_bias).sigmoid()
        return self.output((mixed.unflatten(-1, (self.heads, -1)) * open_[..., None]).flatten(-2))
