"""A map of all pairs of a target and a source token, read by convolutions that look back along the target."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.dropout import Dropout
from everyformer.heads import Largest
from everyformer.heads.pools import Pool
from everyformer.mixers.history import along
from everyformer.mixers.scan import keep, recall
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens, unpack


@part("backbones")
class Pervasive(Backbone):
    """Each pair of a target and a source token is a cell, both side by side, of a map that `layers` densely connected
    convolutions read; a target token becomes what a `pool` over the source leaves of its row, mapped back to the width
    (Elbayad et al., 2018, section 3).

    Each layer adds `growth` channels, by way of `bottleneck` times as many; its kernel sees a cell, the (kernel - 1) / 2 rows
    before it and as many columns on both sides. Norms are of the channels of a cell, so that no cell changes another through
    them; one, and a ReLU, stand before the pool too, as at the end of every DenseNet (their code).
    """

    def __init__(
        self,
        width: int,
        *,
        memory: str = "encoder",
        memory_width: int | None = None,
        layers: int = 24,
        growth: int = 32,
        bottleneck: int = 4,
        kernel: int = 3,
        dropout: float = 0.0,
        pool: Spec[Pool] = spec(Largest),  # noqa: B008
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel is odd, so that a source token stands in the middle; given {kernel}")
        self.memory = memory
        first = width + (memory_width or width)
        self.layers = nn.ModuleList(
            _Dense(first + i * growth, growth, bottleneck * growth, kernel, dropout) for i in range(layers)
        )
        last = first + layers * growth
        self.norm = nn.LayerNorm(last)
        self.pool: Pool = self.make("pool", pool, last)
        self.project = nn.Linear(last * self.pool.widens, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """What the target tokens become."""
        context = context or Context()
        if tokens.lengths is None:
            return tokens.update(self._read(tokens, context))
        whole = unpack(tokens)
        return tokens.update(self._read(whole, context)[whole.mask][None])

    def _read(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        source = context.read(self.memory, "Pervasive")
        source = source if source.lengths is None else unpack(source)
        rows = tokens.values[:, :, None].expand(-1, -1, source.count, -1)
        cells = torch.cat((rows, source.values[:, None].expand(-1, tokens.count, -1, -1)), -1)
        for layer in self.layers:
            cells = torch.cat((cells, layer(cells, source.mask, tokens, context)), -1)
        cells = F.relu(self.norm(cells))
        real = None if source.mask is None else source.mask[:, None].expand(-1, tokens.count, -1).flatten(0, 1)
        return self.project(self.pool(Tokens(cells.flatten(0, 1), mask=real))).unflatten(0, cells.shape[:2])


class _Dense(nn.Module):
    """Norm, ReLU and a narrow map, then norm, ReLU and the convolution; the cache holds the rows that it looks back on."""

    def __init__(self, width: int, growth: int, narrow: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(narrow)))
        self.narrow = nn.Linear(width, narrow, bias=False)
        self.back = kernel // 2
        self.conv = nn.Conv2d(narrow, growth, (self.back + 1, kernel), padding=(0, self.back), bias=False)
        self.dropout = Dropout(dropout)

    def forward(
        self, cells: Float[Tensor, "B N M C"], real: Bool[Tensor, "B M"] | None, tokens: Tokens, context: Context
    ) -> Float[Tensor, "B N M E"]:
        """The new channels of each cell; beyond the ends, and in padding, stand zeros."""
        hidden = F.relu(self.norms[1](self.narrow(F.relu(self.norms[0](cells)))))
        if real is not None:
            hidden = hidden * real[:, None, :, None]
        rows = hidden.flatten(2)
        before = recall(self, context, "before")
        before = rows.new_zeros(rows.shape[0], self.back, rows.shape[2]) if before is None else before
        found, before = along(rows, before, tokens.mask, self.convolve)
        keep(self, context, before=before)
        return self.dropout(found.unflatten(2, (-1, self.conv.out_channels)))

    def convolve(self, rows: Float[Tensor, "B PN MC"]) -> Float[Tensor, "B N ME"]:
        """The convolution of all rows but the first ones, which are only looked back on."""
        cells = rows.unflatten(2, (-1, self.conv.in_channels)).movedim(-1, 1)
        found: Tensor = self.conv(cells)
        return found.movedim(1, -1).flatten(2)
