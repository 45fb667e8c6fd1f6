"""One tensor of a cache that grows token by token, and how it is held."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from everyformer.registry import Part


def take(
    x: Shaped[Tensor, "B H M *k"], columns: Int[Tensor, " R"] | Int[Tensor, "B R"] | Int[Tensor, "B G R"]
) -> Shaped[Tensor, "B H R *k"]:
    """The `columns` of dimension 2: the same for all sequences, for each its own, or for each head of each."""
    columns = columns.to(x.device)
    if columns.ndim == 1:
        return x.index_select(2, columns)
    index = columns[:, None] if columns.ndim == 2 else columns
    shape = len(index), max(x.shape[1], index.shape[1])
    index = index.view(*index.shape, *(1,) * (x.ndim - 3)).expand(*shape, -1, *x.shape[3:])
    return x.expand(*shape, *x.shape[2:]).gather(2, index)


def compact(stays: Bool[Tensor, "#B M"] | Bool[Tensor, "B G M"]) -> tuple[Tensor, Tensor]:
    """Columns, in order, behind which those that stay stand, and which of them stay: what is left of each sequence.

    Sequences of which less stays have columns before it that do not.
    """
    widest = int(stays.sum(-1).max())
    columns = stays.to(torch.uint8).argsort(dim=-1, stable=True)[..., stays.shape[-1] - widest :]
    return columns, stays.gather(-1, columns)


class Columns:
    """A tensor (B, H, M, K) that grows along M.

    It is written into a buffer with room to spare, so that each token is copied a fixed number of times.
    """

    def __init__(self, first: Shaped[Tensor, "B H M K"]) -> None:
        self.held = self.buffer = first

    def whole(self) -> Shaped[Tensor, "B H M K"]:
        """All of it."""
        return self.held

    def append(self, new: Shaped[Tensor, "B H N K"]) -> Shaped[Tensor, "B H M K"]:
        """Add columns, and give the whole."""
        held, count, total = self.held, self.held.shape[2], self.held.shape[2] + new.shape[2]
        if torch.is_grad_enabled() and (held.requires_grad or new.requires_grad):
            self.put(torch.cat((held, new), 2))
            return self.held
        if self.buffer is held or self.buffer.shape[2] < total:
            self.buffer = held.new_empty(*held.shape[:2], 2 * total, *held.shape[3:])
            self.buffer[:, :, :count] = held
        self.buffer[:, :, count:total] = new
        self.held = self.buffer[:, :, :total]
        return self.held

    def put(self, values: Shaped[Tensor, "B H M K"]) -> None:
        """Exchange all."""
        self.held = self.buffer = values

    def take(self, columns: Int[Tensor, "..."]) -> None:
        """Keep some columns."""
        self.put(take(self.held, columns))

    def cut(self, count: int) -> None:
        """Keep the first `count`."""
        whole = self.buffer is self.held
        self.held = self.held[:, :, :count]
        self.buffer = self.held if whole else self.buffer

    def pick(self, rows: Int[Tensor, " R"]) -> None:
        """Keep, repeat and reorder sequences."""
        if self.buffer is self.held:
            return self.put(self.held.index_select(0, rows))
        buffer = self.buffer.new_empty(len(rows), *self.buffer.shape[1:])
        picked = buffer[:, :, : self.held.shape[2]]
        torch.index_select(self.held, 0, rows, out=picked)
        self.held, self.buffer = picked, buffer

    def fork(self) -> Self:
        """The same again, to grow by itself: what is held is shared, and neither writes into it again."""
        self.buffer = self.held
        return type(self)(self.held)

    @property
    def bytes(self) -> int:
        """What is held of the tokens, without the room to spare."""
        return self.held.nbytes


class Storage(Part):
    """How a cache holds what it is given: as it is."""

    moves: bool = True
    """Whether keys can be turned to other places, as a policy that closes gaps does."""

    def hold(self, name: str, first: Shaped[Tensor, "B H M K"]) -> Columns:
        """The columns of an entry, begun with its first tokens."""
        return Columns(first)
