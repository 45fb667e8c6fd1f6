"""Attention in pieces, joined exactly: a state of what some keys gave, and the merge of two.

Softmax over a union of keys is what the states of its parts merge to, in any order (Rabe and Staats, 2021; Dao et al., 2022;
Milakov and Gimelshein, 2018). Decoding over split keys, attention over chunks, and one softmax over tokens and summaries of
blocks all stand on it.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from everyformer.mixers.lowering import Lowered


class State(NamedTuple):
    """What a query has of some keys: sum_j exp(s_j - m) v_j, m = max_j s_j, and sum_j exp(s_j - m)."""

    output: Float[Tensor, "*b N V"]
    maximum: Float[Tensor, "*b N 1"]
    total: Float[Tensor, "*b N 1"]

    def merge(self, other: State) -> State:
        """The state of the keys of both; associative and commutative, the state of no keys changes nothing."""
        maximum = torch.maximum(self.maximum, other.maximum)
        ours, theirs = (_exp(each.maximum - maximum) for each in (self, other))
        return State(
            ours * self.output + theirs * other.output, maximum, ours * self.total + theirs * other.total
        )  # fmt: skip

    def finish(self) -> Float[Tensor, "*b N V"]:
        """The attention: zeros where no key was seen."""
        return self.output / self.total.clamp(min=torch.finfo(self.total.dtype).tiny)

    def logsumexp(self) -> Float[Tensor, "*b N 1"]:
        """log sum_j exp(s_j), -inf of no keys."""
        return self.maximum + self.total.log()


def _exp(gap: Tensor) -> Tensor:
    """exp, with 0 for the -inf minus -inf of two states without keys."""
    return gap.nan_to_num(nan=float("-inf")).exp()


def state(scores: Float[Tensor, "*b N M"], value: Float[Tensor, "*#b M V"], allowed: Tensor | None = None) -> State:
    """The state of keys with these scores and values."""
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    maximum = scores.detach().amax(-1, keepdim=True)
    weights = _exp(scores - maximum) if allowed is not None else (scores - maximum).exp()
    return State(weights.to(value.dtype) @ value, maximum, weights.sum(-1, keepdim=True))


def merged(*states: State) -> State:
    """All states in one: the joint softmax over all that they have seen."""
    return reduce(State.merge, states)


def split(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B G M V"],
    *,
    lowered: Lowered,
    scale: float,
    size: int,
    bias: Float[Tensor, "#B #H #N M"] | None = None,
) -> State:
    """The state of all keys, taken `size` at a time: no more than N x size scores exist at once, forward or backward."""
    shared = query.shape[1] // key.shape[1]
    count = query.shape[2]

    def piece(query: Tensor, key: Tensor, value: Tensor, start: int) -> State:
        """One chunk of keys; a later pass forms its scores again rather than keep them."""
        stop = start + key.shape[2]
        scores = query @ key.repeat_interleave(shared, 1).mT * scale
        if bias is not None:
            scores = scores + bias[..., start:stop]
        allowed = None if lowered.allowed is None else lowered.allowed[..., start:stop]
        if lowered.causal:
            at = torch.arange(count, device=query.device)
            allowed = torch.arange(start, stop, device=query.device) <= at[:, None]
        return state(scores, value.repeat_interleave(shared, 1), allowed)

    found = [
        checkpoint(piece, query, k, v, start * size, use_reentrant=False)
        for start, (k, v) in enumerate(zip(key.split(size, 2), value.split(size, 2), strict=True))
    ]
    return merged(*found)
