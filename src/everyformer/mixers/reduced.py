"""Attention of every cell to fewer, coarser ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, Transition
from everyformer.grids import as_map
from everyformer.mixers.attend import Lowered, Taps, attend
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class ReducedAttention(Mixer):
    """Queries of every cell, keys and values of the cells of a coarser map (Wang et al., PVT, 2021, section 3.3).

    `reduce` makes the coarser map, at the same width.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self, width: int, *, reduce: Spec[Transition], heads: int = 8, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.head_width, self.dropout = heads, width // heads, dropout
        self.reduce: Transition = self.make("reduce", reduce, width, width)
        self.query = nn.Linear(width, width, bias=bias)
        self.key_value = nn.Linear(width, 2 * width, bias=bias)
        self.output = nn.Linear(width, width)
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each cell takes from the coarser map."""
        coarse = self.reduce(tokens, context).values
        query, key, value = (
            x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
            for x in (self.query(tokens.values), *self.key_value(coarse).chunk(2, -1))
        )
        mixed = attend(
            query, key, value, lowered=Lowered(), scale=self.head_width**-0.5,
            dropout=self.dropout if self.training else 0.0, taps=self.taps,
        )  # fmt: skip
        return self.output(mixed.transpose(1, 2).flatten(2))


@part("mixers")
class EmbeddingFree(Mixer):
    """softmax(x c^T / sqrt(K)) c of the tokens x themselves, without maps of queries, keys or values, c the cells of a
    coarser map (Yu et al., EDAFormer, 2024, equation 3). `reduce` makes the coarser map, at the same width.
    """

    capabilities = frozenset({"grid"})

    def __init__(self, width: int, *, reduce: Spec[Transition], heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout = heads, share("width", width, heads), dropout
        self.reduce: Transition = self.make("reduce", reduce, width, width)
        self.output = nn.Linear(width, width)
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each cell takes from the coarser map."""
        query, coarse = (split(x, self.heads) for x in (tokens.values, self.reduce(tokens, context).values))
        mixed = attend(
            query, coarse, coarse, lowered=Lowered(), scale=self.head_width**-0.5,
            dropout=self.dropout if self.training else 0.0, taps=self.taps,
        )  # fmt: skip
        return self.output(merge(mixed))


class _Projection(nn.Module):
    """A convolution of each channel alone and a batch norm; leading tokens pass beside them."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, cells: Tensor, leading: Tensor) -> Tensor:
        return torch.cat((leading, self.norm(self.conv(cells)).flatten(2).mT), 1)


@part("mixers")
class ConvAttention(Mixer):
    """Attention whose queries, keys and values each pass a convolution of their own before their linear map
    (Wu et al., CvT, 2021, section 3.2); `stride` is that of keys and values.

    The scale is that of the official code: the width of all heads together.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        kernel: int = 3,
        stride: int = 2,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.head_width, self.scale, self.dropout = heads, width // heads, width**-0.5, dropout
        self.convs = nn.ModuleList(_Projection(width, kernel, step) for step in (1, stride, stride))
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the others."""
        cells, leading = as_map(tokens), tokens.values[:, : tokens.prefix]
        query, key, value = (
            linear(conv(cells, leading)).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
            for conv, linear in zip(self.convs, self.maps)
        )
        mixed = attend(
            query, key, value, lowered=Lowered(), scale=self.scale,
            dropout=self.dropout if self.training else 0.0, taps=self.taps,
        )  # fmt: skip
        return self.output(mixed.transpose(1, 2).flatten(2))
