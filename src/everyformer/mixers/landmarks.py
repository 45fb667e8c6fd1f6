"""Attention to earlier blocks through the landmark token that closes each."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.dropout import dropout
from everyformer.errors import BadInput
from everyformer.mixers.attend import softmax
from everyformer.mixers.attention import Attention
from everyformer.mixers.lowering import lower
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

MOST = 2**23
"""Scores that are formed at once."""


class Blocks(NamedTuple):
    """The blocks of a text, each closed by a landmark."""

    landmark: Bool[Tensor, "B N"]
    number: Int[Tensor, "B N"]
    """The block of each token."""
    offset: Int[Tensor, "B N"]
    """Where it stands in its block."""
    at: Int[Tensor, "B n"]
    """Where the landmark of each block stands."""
    size: int
    """The places of the longest block, its landmark among them."""


@part("mixers")
class LandmarkAttention(Attention):
    """Attention to the own block and to earlier landmarks; each landmark's weight is shared out among the tokens of its block.

    Mohtashami and Jaggi, Landmark Attention, 2023, section 3.1 (grouped softmax). Landmarks are the tokens that are
    `marked`; without any this is causal attention. With `keep` each head of each query retrieves so many blocks, those whose
    landmarks score highest (section 3.2), and blocks more than `keep` back all stand one block further than that, so that no
    distance is longer than `keep` + 1 blocks however long the text (section 3.3, stingy positions).
    """

    capabilities = frozenset({"causal", "padding"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        positions: Spec[Position] | None = None,
        keep: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, key_heads=key_heads, head_width=head_width, bias=bias, output_bias=output_bias,
            positions=positions, dropout=dropout,
        )  # fmt: skip
        if keep is not None and keep < 1:
            raise ValueError(f"keep is at least 1 block, or None for all; given {keep}")
        self.keep = keep

    def _mix(self, qkv: Tensor, tokens: Tokens, context: Context) -> Tensor:
        if context.cache is not None:
            raise BadInput("landmarks are put between the tokens of a whole text; generate without a cache")
        if tokens.marked is None:
            return super()._mix(qkv, tokens, context)
        query, key, value = self.operands(qkv)
        key, value = (x.repeat_interleave(self.heads // self.key_heads, 1) for x in (key, self.taps.values(value)))
        blocks = self._blocks(tokens)
        allowed = lower(context.mask, tokens, context).explicit(tokens.count, query.device)
        turned = self._turned(key, tokens, blocks, context)
        pieces = self._pieces(query, key.shape[2])
        again = len(pieces) > 1 and torch.is_grad_enabled()
        form = partial(checkpoint, self._rows, use_reentrant=False) if again else self._rows
        mixed = torch.cat([form(rows, query, turned, value, tokens, blocks, allowed, context) for rows in pieces], 2)
        return self.taps.mixed(mixed).transpose(1, 2).flatten(2)

    def _pieces(self, query: Tensor, keys: int) -> list[slice]:
        """The queries, some at a time, so that a long text needs no square of scores at once; a backward pass forms them again."""
        count = query.shape[2]
        if torch.compiler.is_compiling() or self.taps.watched:
            return [slice(0, count)]
        size = max(1, MOST // (query.shape[0] * query.shape[1] * keys))
        return [slice(start, start + size) for start in range(0, count, size)]

    def _rows(
        self,
        rows: slice,
        query: Tensor,
        turned: Tensor,
        value: Tensor,
        tokens: Tokens,
        blocks: Blocks,
        allowed: Tensor | None,
        context: Context,
    ) -> Float[Tensor, "B H n V"]:
        """What some of the queries take."""
        if allowed is not None and allowed.shape[-2] > 1:
            allowed = allowed[..., rows, :]
        scores = self._scores(query[:, :, rows], turned, rows, tokens, blocks, context)
        weights = self.taps.weights(self._weights(scores, rows, blocks, allowed).to(value.dtype))
        return (dropout(weights, self.dropout) if self.training else weights) @ value

    def _blocks(self, tokens: Tokens) -> Blocks:
        marked = tokens.marked if tokens.mask is None else tokens.marked & tokens.mask  # type: ignore[operator]
        number = marked.cumsum(1) - marked.long()
        place = torch.arange(tokens.count, device=marked.device)
        first = torch.where(number.diff(dim=1, prepend=number[:, :1] - 1) > 0, place, 0).cummax(1)[0]
        order = (~marked).to(torch.uint8).argsort(dim=1, stable=True)
        if marked.is_meta or torch.compiler.is_compiling():
            return Blocks(marked, number, place - first, order, tokens.count)
        most = int(number.max()) + 1
        return Blocks(marked, number, place - first, order[:, :most], int((place - first).max()) + 1)

    def _turned(self, key: Tensor, tokens: Tokens, blocks: Blocks, context: Context) -> Float[Tensor, "B H N K"]:
        """The keys turned by the places of their tokens, or by those in their blocks where blocks are moved."""
        positions = self._positions(context)
        if positions is None:
            return self.taps.keys(key)
        if self.keep is None:
            return self.taps.keys(positions.rotate(key, tokens.places, context))
        return positions.rotate(self.taps.keys(key), blocks.offset[..., None], context)

    def _scores(
        self, query: Tensor, turned: Tensor, rows: slice, tokens: Tokens, blocks: Blocks, context: Context
    ) -> Float[Tensor, "B H n N"]:
        """Scaled products, turned by the places of the tokens, or by those that blocks too far back are moved to."""
        positions = self._positions(context)
        if positions is None or self.keep is None:
            places, bias = tokens.places, None
            if positions is not None:
                query = positions.rotate(query, places[:, rows], context)
                bias = positions.bias(query, places[:, rows], places, self.scale, context)
            scores = self.taps.queries(query) @ turned.mT * self.scale
            return scores if bias is None else scores + bias
        query = self.taps.queries(query)
        back = (blocks.number[:, rows, None] - blocks.number[:, None]).clamp(0, self.keep + 1)[:, None]
        at = blocks.offset[..., None]
        scores = query.new_zeros(*query.shape[:3], turned.shape[2])
        for step in range(self.keep + 2):
            there = at[:, rows] + step * blocks.size
            moved = positions.rotate(query, there, context)
            bias = positions.bias(moved, there, at, self.scale, context)
            each = moved @ turned.mT * self.scale + (0.0 if bias is None else bias)
            scores = torch.where(back == step, each, scores)
        return scores

    def _positions(self, context: Context) -> Position | None:
        """Its own positions, else those that the layers share."""
        return self.positions if self.positions is not None else context.positions

    def _weights(self, scores: Tensor, rows: slice, blocks: Blocks, allowed: Tensor | None) -> Float[Tensor, "B H n N"]:
        scores = self.taps.scores(scores.to(torch.promote_types(scores.dtype, torch.float32)))
        own = blocks.number[:, None, rows, None] == blocks.number[:, None, None, :]
        landmark = blocks.landmark[:, None, None, :]
        others = landmark & ~own
        if self.keep is not None:
            others = self._retrieved(scores, others if allowed is None else others & allowed)
        direct = (own & ~landmark) | others
        direct = softmax(scores, direct if allowed is None else direct & allowed)
        closed = blocks.landmark.gather(1, blocks.at)[:, None, None]
        shares = direct.gather(-1, blocks.at[:, None, None].expand(*scores.shape[:3], -1)) * closed
        index = blocks.number[:, None, None].expand_as(scores)
        shared = ~landmark & ~own if allowed is None else ~landmark & ~own & allowed
        inside = scores.masked_fill(~shared, torch.finfo(scores.dtype).min)
        largest = (
            inside.detach()
            .new_zeros(shares.shape)
            .scatter_reduce(-1, index, inside.detach(), "amax", include_self=False)
        )
        inside = (inside - largest.gather(-1, index)).exp() * shared
        total = inside.new_zeros(shares.shape).scatter_add(-1, index, inside).clamp(min=torch.finfo(scores.dtype).tiny)
        return direct * (own & ~landmark) + inside / total.gather(-1, index) * shares.gather(-1, index)

    def _retrieved(self, scores: Tensor, others: Tensor) -> Bool[Tensor, "B H n N"]:
        """The `keep` landmarks of each head of each query that score highest."""
        found = scores.detach().masked_fill(~others, float("-inf"))
        best = found.topk(min(self.keep, found.shape[-1]), -1)[1]  # type: ignore[type-var]
        return torch.zeros_like(found, dtype=torch.bool).scatter(-1, best, True) & others
