"""Attention without a softmax over queries and keys, whose positions are convolutions of the values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.grids import as_map
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens


class ConvolvedValues(nn.Module):
    """q * conv(v), heads in groups with a kernel each (Xu et al., CoaT, 2021, equation 6); leading tokens get zeros."""

    def __init__(self, head_width: int, windows: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.widths = [heads * head_width for _, heads in windows]
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
            for width, (kernel, _) in zip(self.widths, windows, strict=True)
        )

    def forward(self, query: Float[Tensor, "B N D"], tokens: Tokens) -> Float[Tensor, "B N D"]:
        """What is added to the mixed values; the values stand in `tokens`."""
        pieces = as_map(tokens).split(self.widths, 1)
        convolved = torch.cat([conv(piece) for conv, piece in zip(self.convs, pieces, strict=True)], 1)
        return query * F.pad(convolved.flatten(2).mT, (0, 0, tokens.prefix, 0))


@part("mixers")
class FactorAttention(Mixer):
    """Q (softmax(K)^T V) / sqrt(K) + Q * conv(V), softmax over the tokens (Xu et al., CoaT, 2021, equations 4 and 7).

    `windows` are the kernels of the convolution and the heads that have each, in order. The time is linear in the number
    of tokens.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        windows: tuple[tuple[int, int], ...] = ((3, 2), (5, 3), (7, 3)),
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, share("width", width, heads)
        if sum(count for _, count in windows) != heads:
            raise ValueError(f"windows are (kernel, heads) for {heads} heads in all; given {windows}")
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.relative = ConvolvedValues(self.head_width, windows)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the sums over all."""
        if tokens.mask is not None:
            raise BadInput("FactorAttention convolves a whole map, and here some of it is padding; give it without")
        query, key, value = self.qkv(tokens.values).chunk(3, -1)
        inside = split(key, self.heads).softmax(2).mT @ split(value, self.heads)
        mixed = merge(split(query, self.heads) @ inside) * self.head_width**-0.5
        return self.output(mixed + self.relative(query, tokens.update(value)))
