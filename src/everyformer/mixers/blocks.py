"""Sparse attention by blocks: each block of queries meets only the blocks of keys that its mask lists.

The N x N scores never exist: cost and memory grow with the listed blocks. It runs on any device, forward and backward,
with anything that attention can do to its scores, for it calls a dense attention once for each group of blocks of queries
that list about as many blocks of keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.masks import Mask

SIDE = 64
"""Tokens of a block."""
SHORTEST = 512
"""Below this many tokens a dense mask is faster."""


def worthwhile(mask: Mask, count: int) -> bool:
    """Whether at most half of the scores have to be formed; not while compiling, where lengths may be symbols."""
    if torch.compiler.is_compiling() or count < SHORTEST:
        return False
    return share(mask, count) <= 0.5


@lru_cache(maxsize=256)
def share(mask: Mask, count: int) -> float:
    """The share of the scores that the groups of a mask form."""
    formed = sum(queries.shape[0] * keys.shape[1] for queries, keys, _ in groups(mask, count))
    return formed / math.ceil(count / SIDE) ** 2


@lru_cache(maxsize=64)
def groups(mask: Mask, count: int) -> list[tuple[Int[Tensor, " R"], Int[Tensor, "R c"], Bool[Tensor, "R c"]]]:
    """Blocks of queries with the blocks of keys that they list (and which of those are listed, not filled up).

    A group holds those whose lists are at most twice as long as each other.
    """
    first = torch.arange(0, count, SIDE)
    last = (first + SIDE - 1).clamp(max=count - 1)
    touched = mask.touches((first[:, None], last[:, None]), (first[None], last[None]))
    lengths = touched.sum(1)
    classes = torch.where(lengths > 0, lengths, 1).double().log2().ceil()
    found = []
    for each in classes.unique():
        rows = (classes == each).nonzero()[:, 0]
        width = max(int(lengths[rows].max()), 1)
        listed, keys = touched[rows].to(torch.uint8).sort(dim=1, descending=True, stable=True)
        found.append((rows, keys[:, :width], listed[:, :width].bool()))
    return found


class Gathered:
    """A mask over `count` tokens as groups of blocks; padding is moved behind the real tokens and back again."""

    def __init__(self, mask: Mask, count: int, device: torch.device, real: Bool[Tensor, "B N"] | None) -> None:
        self.count = count
        self.order = None if real is None else (~real).to(torch.uint8).argsort(dim=1, stable=True)
        lengths = None if real is None else real.sum(1)
        within = torch.arange(SIDE, device=device)
        self.groups = []
        for queries, keys, listed in groups(mask, count):
            queries, keys = queries.to(device), keys.to(device)
            query = queries[:, None] * SIDE + within
            key = (keys[..., None] * SIDE + within).flatten(1)
            allowed = mask.allows(query[..., None], key[:, None, :]) & (key < count)[:, None, :]
            allowed = allowed & listed.to(device).repeat_interleave(SIDE, 1)[:, None, :]
            if lengths is not None:
                allowed = allowed[:, None] & (key[:, None, :] < lengths[:, None])[:, :, None, :]
                allowed = allowed.flatten(0, 1)
            self.groups.append((queries, keys, allowed[:, None]))
        blocks = torch.cat([queries for queries, _, _ in self.groups])
        self.back = blocks.argsort()
        self.made: dict[int, Any] = {}

    def attend(
        self,
        call: Callable[..., Tensor],
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B G N K"],
        value: Float[Tensor, "B G N V"],
        *along: Tensor | None,
    ) -> Float[Tensor, "B H N V"]:
        """`call(query, key, value, allowed, *pairs)` for each group, put together.

        `along` are (#B, N, ...) tensors that go with the tokens; `pairs` are what the queries and the keys have of each.
        """
        batch = query.shape[0]
        query, key, value = (self._blocks(x.transpose(1, 2)) for x in (query, key, value))
        extra = [self._pairs(x, batch) for x in along]
        found = []
        for at, (queries, keys, allowed) in enumerate(self.groups):
            pairs = [each[at] for each in extra]
            mixed = call(
                _pick(query, queries[:, None]).transpose(1, 2), _pick(key, keys).transpose(1, 2),
                _pick(value, keys).transpose(1, 2), self._expand(allowed, batch), *pairs,
            )  # fmt: skip
            found.append(mixed.transpose(1, 2).unflatten(0, (len(queries), batch)))
        mixed = torch.cat(found).index_select(0, self.back).transpose(0, 1).flatten(1, 2)[:, : self.count]
        if self.order is not None:
            index = self.order.argsort(dim=1)[..., None, None]
            mixed = mixed.gather(1, index.expand(-1, -1, *mixed.shape[2:]))
        return mixed.transpose(1, 2)

    def _pairs(self, x: Tensor | None, batch: int) -> list[tuple[Tensor | None, Tensor | None]]:
        """What the queries and the keys of each group have of `x`: made once, for biases are kept by these very tensors."""
        if x is None:
            return [(None, None)] * len(self.groups)
        if id(x) not in self.made:
            blocks = self._blocks(x.expand(batch, *x.shape[1:]))
            self.made[id(x)] = x, [(_pick(blocks, q[:, None]), _pick(blocks, k)) for q, k, _ in self.groups]
        return self.made[id(x)][1]

    def _expand(self, allowed: Tensor, batch: int) -> Tensor:
        """Of a mask that is the same for the batch, one row for each of its sequences."""
        return allowed if self.order is not None else allowed.repeat_interleave(batch, 0)

    def _blocks(self, x: Tensor) -> Tensor:
        """(B, N, ...) as (n, B, SIDE, ...), filled up with zeros, padding last."""
        if self.order is not None:
            index = self.order[(...,) + (None,) * (x.ndim - 2)]
            x = x.gather(1, index.expand(-1, -1, *x.shape[2:]))
        missing = -self.count % SIDE
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
        return x.unflatten(1, (-1, SIDE)).transpose(0, 1)


def _pick(x: Tensor, index: Int[Tensor, "R c"]) -> Tensor:
    """Of blocks (n, B, SIDE, ...) the listed ones: (R B, c SIDE, ...)."""
    rows, width = index.shape
    picked = x.index_select(0, index.flatten()).unflatten(0, (rows, width))
    return picked.transpose(1, 2).flatten(2, 3).flatten(0, 1)
