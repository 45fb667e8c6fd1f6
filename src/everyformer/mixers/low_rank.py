"""Attention to fewer keys than there are tokens: learned sums of them along the sequence."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class Linformer(Mixer):
    """softmax(Q (E K)^T / sqrt(K)) F V with E, F (rank, length), shared by the heads (Wang et al., Linformer, 2020, eq. 7).

    A sequence shorter than `length` has the first columns of E and F, as if zeros came after it.
    """

    capabilities = frozenset({"ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        length: int = 4096,
        rank: int = 128,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.length, self.dropout = heads, length, dropout
        share("width", width, heads)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.keys = nn.Parameter(torch.randn(rank, length) * rank**-0.5)
        self.values = nn.Parameter(torch.randn(rank, length) * rank**-0.5)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from `rank` sums of all tokens."""
        count = tokens.count
        if count > self.length:
            raise BadInput(f"{count} tokens, and Linformer was built for {self.length}; build with a larger length")
        query, key, value = self.qkv(tokens.values).chunk(3, -1)
        key, value = self.keys[:, :count] @ key, self.values[:, :count] @ value
        query, key, value = (split(x, self.heads) for x in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        return self.output(merge(F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)))
