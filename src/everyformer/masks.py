"""Which token may look at which: one vocabulary of masks for every mixer.

A mask speaks of order: `allows(query, key)` is given the place of each query and each key in its own sequence and
answers where the query may see the key. Padding and packing are not said here: they travel with the tokens; nor which
tokens of a memory each query may see: that travels with the memory (`Context.seen`).
`touches(query, key)` is given spans of places and answers where the mask may allow something between them, so that
a kernel leaves out what it need not look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Span = tuple[Int[Tensor, "..."], Int[Tensor, "..."]]
"""First and last places of spans of tokens."""


@dataclass(frozen=True)
class Mask:
    """Base of all masks."""

    needs: ClassVar[str | None] = "masked"
    """The capability that a mixer must have to stand under this mask."""

    def allows(self, query: Int[Tensor, "*b N 1"], key: Int[Tensor, "*b 1 M"]) -> Bool[Tensor, "*b N M"]:
        """True where the query may see the key."""
        raise NotImplementedError

    def touches(self, query: Span, key: Span) -> Bool[Tensor, "n m"]:
        """False only where no query of a span may see any key of another; true wherever the mask cannot tell."""
        return torch.ones_like(query[0] + key[0], dtype=torch.bool)

    def __and__(self, other: Mask) -> Mask:
        if isinstance(self, Full) or self == other:
            return other
        return self if isinstance(other, Full) else Both(self, other)

    def __or__(self, other: Mask) -> Mask:
        if isinstance(self, Full) or isinstance(other, Full):
            return Full()
        return Either(self, other)


@dataclass(frozen=True)
class Full(Mask):
    """Every token sees every token."""

    needs: ClassVar[str | None] = None

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones_like(query + key, dtype=torch.bool)


@dataclass(frozen=True)
class Causal(Mask):
    """A token sees itself and what came before it, and `ahead` tokens after it (limited look-ahead)."""

    ahead: int = 0
    needs: ClassVar[str | None] = "causal"

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return key <= query + self.ahead

    def touches(self, query: Span, key: Span) -> Tensor:
        return key[0] <= query[1] + self.ahead


@dataclass(frozen=True)
class Window(Mask):
    """A token sees `before` tokens before it, itself and `after` tokens after it (sliding window)."""

    before: int
    after: int = 0

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (key >= query - self.before) & (key <= query + self.after)

    def touches(self, query: Span, key: Span) -> Tensor:
        return (key[1] >= query[0] - self.before) & (key[0] <= query[1] + self.after)


@dataclass(frozen=True)
class Dilated(Mask):
    """A token sees those whose distance is a multiple of `step`."""

    step: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (query - key) % self.step == 0

    def touches(self, query: Span, key: Span) -> Tensor:
        return (query[1] - key[0]) // self.step * self.step >= query[0] - key[1]


@dataclass(frozen=True)
class Prefix(Mask):
    """Every token sees the first `length` tokens."""

    length: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (key < self.length) & (query >= 0)

    def touches(self, query: Span, key: Span) -> Tensor:
        return (key[0] < self.length) & (query[0] >= 0)


@dataclass(frozen=True)
class First(Mask):
    """The first `length` tokens see every token."""

    length: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (query < self.length) & (key >= 0)

    def touches(self, query: Span, key: Span) -> Tensor:
        return (query[0] < self.length) & (key[0] >= 0)


@dataclass(frozen=True)
class From(Mask):
    """Every token sees the tokens from place `start` on, and those see every token."""

    start: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (query >= self.start) | (key >= self.start)

    def touches(self, query: Span, key: Span) -> Tensor:
        return (query[1] >= self.start) | (key[1] >= self.start)


@dataclass(frozen=True)
class Block(Mask):
    """A token sees the tokens of its own block of `size`, of the `back` blocks before it and the `ahead` after it."""

    size: int
    back: int = 0
    ahead: int = 0

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        gap = query // self.size - key // self.size
        return (gap >= -self.ahead) & (gap <= self.back)

    def touches(self, query: Span, key: Span) -> Tensor:
        nearest = query[0] // self.size - key[1] // self.size
        return (query[1] // self.size + self.ahead >= key[0] // self.size) & (nearest <= self.back)


@dataclass(frozen=True)
class Random(Mask):
    """The tokens of each block of `size` see `count` blocks drawn at random (Zaheer et al., BigBird, 2020, section 2).

    The blocks are drawn among the first `blocks` by `seed`; after those the draws begin again from the first block's.
    Where `besides` is given, blocks of which it allows something are drawn only where no others are left.
    """

    size: int
    count: int
    blocks: int
    seed: int = 0
    besides: Mask | None = None

    def drawn(self, block: Int[Tensor, "*b N"]) -> Int[Tensor, "*b N r"]:
        """The blocks that those of each query see."""
        draws = _draws.__wrapped__ if torch.compiler.is_compiling() else _draws  # what a graph makes is its own
        return draws(self).to(block.device)[block % self.blocks]

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        drawn = self.drawn((query // self.size)[..., 0])[..., None, :]
        return (drawn == (key // self.size)[..., None]).any(-1)

    def touches(self, query: Span, key: Span) -> Tensor:
        first, last = query[0] // self.size, query[1] // self.size
        low, high = (key[0] // self.size)[..., None], (key[1] // self.size)[..., None]
        found = torch.zeros_like(query[0] + key[0], dtype=torch.bool)
        for step in range(int((last - first).max()) + 1):
            drawn = self.drawn(torch.minimum(first + step, last))
            found = found | ((drawn >= low) & (drawn <= high)).any(-1)
        return found


@lru_cache(maxsize=64)
def _draws(mask: Random) -> Tensor:
    """(blocks, count): different blocks for each block, by hashed numbers, which a compiled graph can hold."""
    at = torch.arange(mask.blocks)
    chance = hashed(at[:, None], at, mask.seed).double() / 2**32
    if mask.besides is not None:
        first = torch.arange(mask.blocks) * mask.size
        last = first + mask.size - 1
        chance = chance + mask.besides.touches((first[:, None], last[:, None]), (first[None], last[None]))
    return chance.argsort(-1)[:, : mask.count]


@dataclass(frozen=True)
class Fading(Mask):
    """The tokens of a block of `size` see those of a block D blocks away with the chance (1 + D) ** -exponent, drawn once for
    each two blocks by `seed` (block-probabilistic attention of Li, 2024, arXiv 2410.18441); an exponent of 0 hides nothing.
    """

    size: int
    exponent: float = 1.0
    seed: int = 0

    def kept(self, query: Int[Tensor, "*q"], key: Int[Tensor, "*k"]) -> Bool[Tensor, "..."]:
        """Whether two blocks see each other."""
        return hashed(query, key, self.seed).float() / 2**32 < (1.0 + (query - key).abs()) ** -self.exponent

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.kept(query // self.size, key // self.size)

    def touches(self, query: Span, key: Span) -> Tensor:
        first, last = (each // self.size for each in query)
        begin, end = (each // self.size for each in key)
        return (first != last) | (begin != end) | self.kept(first, begin)


def hashed(first: Int[Tensor, "*p"], second: Int[Tensor, "*q"], seed: int = 0) -> Int[Tensor, "..."]:
    """Numbers of 32 bits for pairs of places, which a compiled graph makes the same each time; see `scrambled`."""
    return scrambled(first * 0x9E3779B1 + second * 0x85EBCA77 + (seed + 1) * 0xC2B2AE3D & 0xFFFFFFFF)


def scrambled(numbers: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Numbers of 32 bits as others, which look drawn at random and are the same each time."""
    for shift, factor in ((15, 0x85EBCA77), (13, 0xC2B2AE3D)):
        numbers = (numbers ^ numbers >> shift) * factor & 0xFFFFFFFF
    return numbers ^ numbers >> 16


@dataclass(frozen=True)
class Where(Mask):
    """An arbitrary mask by function: `function(query, key)` as `Mask.allows`."""

    function: Callable[[Tensor, Tensor], Tensor]

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.function(query, key)


@dataclass(frozen=True)
class Both(Mask):
    """What two masks both allow."""

    left: Mask
    right: Mask

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.left.allows(query, key) & self.right.allows(query, key)

    def touches(self, query: Span, key: Span) -> Tensor:
        return self.left.touches(query, key) & self.right.touches(query, key)


@dataclass(frozen=True)
class Either(Mask):
    """What one of two masks allows."""

    left: Mask
    right: Mask

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.left.allows(query, key) | self.right.allows(query, key)

    def touches(self, query: Span, key: Span) -> Tensor:
        return self.left.touches(query, key) | self.right.touches(query, key)


KINDS: dict[str, type[Mask]] = {
    kind.__name__: kind
    for kind in (Full, Causal, Window, Dilated, Prefix, First, From, Block, Random, Fading, Both, Either)
}
"""The masks that can be written to YAML by name."""


FULL = Full()


def full() -> Mask:
    """The mask that forbids nothing: one object, which torch.compile sees through where a new one stops it."""
    return FULL


def prefix_lm(length: int) -> Mask:
    """Causal, but the first `length` tokens see each other (Raffel et al., 2020, section 3.2.1)."""
    return Causal() | Prefix(length)
