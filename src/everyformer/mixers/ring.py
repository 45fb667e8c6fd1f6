"""Attention over a sequence that is cut over processes: keys and values go round, and what they give is joined exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.errors import DoesNotFit
from everyformer.masks import Causal
from everyformer.mixers.attention import Attention
from everyformer.mixers.state import State, state
from everyformer.registry import method, part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@dataclass(frozen=True)
class Ring:
    """The processes that hold a sequence: the r-th has its r-th part, and all parts are equally long."""

    group: Any = None

    @property
    def rank(self) -> int:
        """Which part this process holds."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """How many processes there are."""
        return dist.get_world_size(self.group)

    def send(self, *tensors: Tensor) -> tuple[list[Tensor], list[Any]]:
        """Send tensors to the next process: those that come from the one before, and what to wait for until they are there."""
        around = [dist.get_process_group_ranks(self.group)[(self.rank + step) % self.size] for step in (1, -1)]
        coming = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in tensors]
        sends = [dist.P2POp(dist.isend, tensor.contiguous(), around[0], self.group) for tensor in tensors]
        takes = [dist.P2POp(dist.irecv, tensor, around[1], self.group) for tensor in coming]
        return coming, dist.batch_isend_irecv(sends + takes)

    def round(self, *tensors: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        """The tensors of every process, with its rank, one after the other; the next are on their way meanwhile."""
        held = list(tensors)
        for turn in range(self.size):
            last = turn + 1 == self.size
            coming, pending = ([], []) if last else self.send(*held)
            yield (self.rank - turn) % self.size, held
            for each in pending:
                each.wait()
            held = coming


@dataclass(frozen=True)
class _How:
    """The scale, whether a token sees only those before it, and how many keys have scores at once."""

    scale: float
    causal: bool
    size: int

    def pieces(self, rank: int, source: int, *held: Tensor) -> Iterator[tuple[slice, list[Tensor], Tensor | None]]:
        """What the queries of process `rank` see of tensors over the keys of `source`: where, what, and which of it."""
        if self.causal and source > rank:
            return
        count, device = held[0].shape[2], held[0].device
        for start in range(0, count, self.size):
            piece = slice(start, min(start + self.size, count))
            allowed = None
            if self.causal and source == rank:
                at = torch.arange(count, device=device)
                allowed = at[piece] <= at[:, None]
            yield piece, [each[:, :, piece] for each in held], allowed

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scaled products with keys that heads share."""
        return query @ _each(key, query).mT * self.scale


def _each(shared: Tensor, query: Tensor) -> Tensor:
    """Keys or values for every head of the queries."""
    return shared.repeat_interleave(query.shape[1] // shared.shape[1], 1)


class _Ring(torch.autograd.Function):
    """Attention of this process's queries over the keys of all; no more than two parts are here at once, either way."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, ring: Ring, how: _How) -> Tensor:
        empty = query.new_zeros(*query.shape[:-1], 1)
        found = State(empty.expand(*empty.shape[:-1], value.shape[-1]), empty - float("inf"), empty)
        for source, held in ring.round(key, value):
            for _, (k, v), allowed in how.pieces(ring.rank, source, *held):
                found = found.merge(state(how.scores(query, k), _each(v, query), allowed))
        output = found.finish()
        ctx.save_for_backward(query, key, value, output, found.logsumexp())
        ctx.ring, ctx.how = ring, how
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of keys and values go round with them, and come home after the last turn (Liu et al., 2023).

        With weights w = exp(s - logsumexp), the gradient by s is w (grad . v - inner): that of the sum below.
        """
        query, key, value, output, logsumexp = ctx.saved_tensors
        ring, how = ctx.ring, ctx.how
        inner = (grad * output).sum(-1, keepdim=True)
        ours, theirs = torch.zeros_like(query), [torch.zeros_like(key), torch.zeros_like(value)]
        for source, held in ring.round(key, value):
            for piece, keys, allowed in how.pieces(ring.rank, source, *held):
                with torch.enable_grad():
                    given = q, k, v = [each.detach().requires_grad_() for each in (query, *keys)]
                    weights = (how.scores(q, k) - logsumexp).exp()
                    weights = weights if allowed is None else weights.masked_fill(~allowed, 0)
                    total = ((weights @ _each(v, q)) * grad).sum() - (weights * inner).sum()
                found = torch.autograd.grad(total, given)
                ours += found[0]
                for sums, more in zip(theirs, found[1:], strict=True):
                    sums[:, :, piece] += more
            if ring.size > 1:
                theirs, pending = ring.send(*theirs)
                for each in pending:
                    each.wait()
        return ours, *theirs, None, None


@method(
    "unified-long-sequence",
    title="A Unified View of Long-Sequence Models towards Modeling Million-Scale Dependencies",
    authors="Hè and Kabić",
    year=2023,
    arxiv="2302.06218",
    idea="Processes hold parts of one sequence; keys and values go round, and attention over all is joined exactly.",
)
def ring_attention(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B G N K"],
    value: Float[Tensor, "B G N V"],
    *,
    causal: bool = False,
    scale: float | None = None,
    size: int = 1024,
    group: Any = None,
) -> Float[Tensor, "B H N V"]:
    """Attention over a sequence of which each process of `group` gives its part, equally long, in order of rank.

    Its gradients are those of attention over the whole. A process keeps its part of the keys and values, and has one
    more beside it: 2 / P of them; and scores of `size` keys at once. All processes call this together.
    """
    how = _How(query.shape[-1] ** -0.5 if scale is None else scale, causal, size)
    return _Ring.apply(query, key, value, Ring(group), how)


_rings: list[Ring] = []


@contextmanager
def sequence_over(group: Any = None) -> Iterator[Ring]:
    """Inside, the tokens that a model is given are this process's part of sequences that `group` holds together."""
    _rings.append(Ring(group))
    try:
        yield _rings[-1]
    finally:
        _rings.pop()


@part("mixers")
class RingAttention(Attention):
    """Attention that reaches over processes inside `sequence_over(group)`, and `Attention` itself outside of it.

    Each process gives its part of the sequences, equally long and without padding. Places go on from part to part.
    """

    capabilities = frozenset({"causal"})

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
        query_key_norm: Spec[Norm] | None = None,
        scale: float | None = None,
        size: int = 1024,
    ) -> None:
        super().__init__(
            width, heads=heads, key_heads=key_heads, head_width=head_width, bias=bias, output_bias=output_bias,
            positions=positions, query_key_norm=query_key_norm, scale=scale,
        )  # fmt: skip
        self.size = size

    def _mix(self, qkv: Tensor, tokens: Tokens, context: Context) -> Tensor:
        if not _rings:
            return super()._mix(qkv, tokens, context)
        ring = _rings[-1]
        query, key, value = self.operands(qkv)
        positions = self.positions if self.positions is not None else context.positions
        if positions is not None:
            if type(positions).bias is not Position.bias:
                raise DoesNotFit(
                    f"{type(positions).__name__} adds to the scores, which no process has whole", "positions"
                )
            places = tokens.places + ring.rank * tokens.count
            query, key = positions.rotate(query, places, context), positions.rotate(key, places, context)
        mixed = ring_attention(
            query, key, value, causal=context.mask == Causal(), scale=self.scale, size=self.size, group=ring.group
        )  # fmt: skip
        return mixed.transpose(1, 2).flatten(2)
