"""Attention at two resolutions: block means everywhere, exact scores where they are large."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.mixers.state import State, state
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class MultiResolution(Mixer):
    """MRA-2: exp of the mean score of a block stands for all its scores but in the blocks where it is largest.

    Zeng et al., 2022, sections 4.2 and 4.3. Queries, keys and values are averaged over blocks of `block` tokens; of the
    n x n blocks the n times `exact` with the largest scores, each seen from the largest of its row, are worked exactly;
    `first` rows and columns and `diagonal` blocks around the diagonal are taken in any case.
    """

    capabilities = frozenset({"ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        block: int = 32,
        exact: int = 4,
        first: int = 0,
        diagonal: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.block, self.exact, self.first, self.diagonal = heads, block, exact, first, diagonal
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        if context is not None and context.cache is not None:
            raise BadInput("blocks are means over the whole sequence; generate without a cache")
        qkv = self.qkv(tokens.values).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)
        scale = query.shape[-1] ** -0.5
        mixed = self.approximate(query * scale, key, value)
        return self.output(mixed.unflatten(0, (tokens.batch, self.heads)).transpose(1, 2).flatten(2))

    def approximate(
        self, query: Float[Tensor, "Z N K"], key: Float[Tensor, "Z N K"], value: Float[Tensor, "Z N V"]
    ) -> Float[Tensor, "Z N V"]:
        """About softmax(q k^T) v."""
        count = query.shape[1]
        query, key, value = (self._blocks(x) for x in (query, key, value))
        rows = query.shape[1]
        real = (torch.arange(rows * self.block, device=query.device) < count).unflatten(0, (rows, self.block))
        size = real.sum(1)
        means = [x.sum(2) / size[:, None] for x in (query, key, value)]
        coarse = means[0] @ means[1].mT
        index = self._chosen(coarse.detach())
        chosen = torch.zeros_like(coarse, dtype=torch.bool).flatten(1).scatter(1, index, True).view_as(coarse)
        low = state(coarse + size.to(coarse.dtype).log(), means[2], ~chosen)
        low = State(*(each[:, :, None] for each in low))
        return self._exact(query, key, value, index, real).merge(low).finish().flatten(1, 2)[:, :count]

    def _chosen(self, coarse: Float[Tensor, "Z n n"]) -> Int[Tensor, "Z m"]:
        """The places of the blocks that are worked exactly, row times n plus column."""
        rows = coarse.shape[1]
        at = torch.arange(rows, device=coarse.device)
        near = (at[:, None] - at).abs() <= self.diagonal // 2 if self.diagonal else torch.zeros_like(coarse[0]).bool()
        always = near | (at < self.first) | (at < self.first)[:, None]
        rank = coarse - coarse.amax(-1, keepdim=True) + 1e4 * always
        return rank.flatten(1).topk(min(rows * self.exact, rows * rows), sorted=False).indices

    def _exact(
        self, query: Tensor, key: Tensor, value: Tensor, index: Int[Tensor, "Z m"], real: Bool[Tensor, "n b"]
    ) -> State:
        """What the queries have of the blocks at `index`."""
        rows = query.shape[1]
        row, column = index // rows, index % rows
        scores = _pick(query, row) @ _pick(key, column).mT
        scores = scores.masked_fill(~real[column][:, :, None, :], -math.inf)
        into = row[:, :, None, None].expand(*scores.shape[:3], 1)
        top = scores.new_full((*query.shape[:3], 1), -math.inf)
        top = top.scatter_reduce(1, into, scores.detach().amax(-1, keepdim=True), "amax")
        weights = (scores - top.gather(1, into)).exp()
        output, total = weights @ _pick(value, column), weights.sum(-1, keepdim=True)
        return State(
            torch.zeros_like(value).scatter_add(1, into.expand_as(output), output),
            top,
            torch.zeros_like(top).scatter_add(1, into, total),
        )

    def _blocks(self, x: Float[Tensor, "Z N K"]) -> Float[Tensor, "Z n b K"]:
        return F.pad(x, (0, 0, 0, -x.shape[1] % self.block)).unflatten(1, (-1, self.block))


def _pick(blocks: Float[Tensor, "Z n b K"], index: Int[Tensor, "Z m"]) -> Float[Tensor, "Z m b K"]:
    return blocks.gather(1, index[:, :, None, None].expand(-1, -1, *blocks.shape[2:]))
