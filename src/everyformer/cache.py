"""What incremental mixers keep of the tokens seen so far, and which of them stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from everyformer.columns import Columns, Storage, compact, take
from everyformer.registry import Part
from everyformer.tokens import Tokens, order


class Policy(Part):
    """Base of cache policies: asked after each pass which of the cached tokens to keep."""

    closes: bool = False
    """Whether the gap that is left is closed: tokens that stood before it move up to those that stand after it."""
    looks: bool = False
    """Whether each layer keeps what it wants of its own, by what its queries attended to; else all layers keep the same."""
    gathers: bool = False
    """Whether it is shown, after each pass, what every layer attended with, to decide for all of them together."""

    def stays(self, cache: Cache, attended: Any = None) -> Bool[Tensor, "#B M"] | Bool[Tensor, "B G M"] | None:
        """True where a token stays: for all sequences or for each, or for each key head of each, as many of every head.

        `attended` is what the layer attended with, where the policy `looks`, and a list of what all did, where it `gathers`.
        None: all stay.
        """
        raise NotImplementedError


class MemoryPolicy(Part):
    """Base of policies for memories: each cross-attention asks after each pass which tokens of its memory to keep."""

    def stays(
        self, received: Float[Tensor, "B G M"], real: Bool[Tensor, "B G M"], passes: int
    ) -> Bool[Tensor, "B G M"] | None:
        """True where a token stays for a key head, given what each received so far; None: all stay.

        `passes` counts this one.
        """
        raise NotImplementedError


class Cache:
    """What incremental mixers keep of the tokens seen so far; one entry per module, batch first in every tensor."""

    def __init__(
        self, policy: Policy | None = None, storage: Storage | None = None, memories: MemoryPolicy | None = None
    ) -> None:
        self.columns: dict[nn.Module, dict[str, Columns]] = {}
        """What is kept of every token, by the module that keeps it and by name."""
        self.states: dict[nn.Module, dict[str, Tensor]] = {}
        """What is kept beside that: states of a fixed size, keys and values of a memory."""
        self.policy, self.storage, self.memories = policy, storage or Storage(), memories
        self.count = 0
        """Tokens held, padding included: the width of the cache."""
        self.passes = 0
        """How many times tokens came."""
        self.mask: Tensor | None = None
        """(B, count), true where a cached token is real; None where all are."""
        self.places: Tensor | None = None
        """(#B, #G, count), where each held token stood in its sequence, once any were dropped; None before."""
        self.moves: dict[nn.Module, Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]] = {}
        """How the entry of a module changes when its tokens move by (#B, M) places."""
        self._dropped: Tensor | int = 0
        self._turns: dict[tuple[nn.Module, int], Cache] = {}
        self._layers: dict[nn.Module, Cache] = {}

    def turn(self, loop: nn.Module, number: int) -> Cache:
        """The cache of one turn of a loop, whose modules run several times in a pass; it keeps step with this one."""
        if (loop, number) not in self._turns:
            made = self._turns[loop, number] = Cache(self.policy if self.looks else None, self.storage, self.memories)
            made.count, made.mask, made.places, made._dropped = self.count, self.mask, self.places, self._dropped
        return self._turns[loop, number]

    def layer(self, owner: nn.Module) -> Cache:
        """The cache that a layer keeps its tokens in: its own, where the policy looks at what it attends to.

        The layer then says itself when it has seen the tokens of a pass (`advance`).
        """
        if not self.looks:
            return self
        if owner not in self._layers:
            self._layers[owner] = Cache(self.policy, self.storage)
        return self._layers[owner]

    @property
    def looks(self) -> bool:
        """Whether there is a policy that looks at what each layer attends to."""
        return self.policy is not None and self.policy.looks

    @property
    def gathers(self) -> bool:
        """Whether there is a policy that is shown what all layers attended with."""
        return self.policy is not None and self.policy.gathers

    def extend(self, owner: nn.Module, **new: Tensor) -> dict[str, Tensor]:
        """Append tensors (B, H, N, K) to the entry of `owner` and return the whole of it."""
        kept = self.columns.get(owner)
        if kept is None:
            self.columns[owner] = {name: self.storage.hold(name, value) for name, value in new.items()}
            return new
        return {name: kept[name].append(value) for name, value in new.items()}

    def exchange(self, owner: nn.Module, **values: Tensor) -> None:
        """Put other values (B, H, M, K) in the place of those that the entry of `owner` has in columns."""
        for name, value in values.items():
            self.columns[owner][name].put(value)

    def held(self, owner: nn.Module) -> dict[str, Tensor]:
        """The whole entry of a module; empty where it keeps nothing yet."""
        columns = {name: held.whole() for name, held in self.columns.get(owner, {}).items()}
        return columns | self.states.get(owner, {})

    def advance(self, tokens: Tokens, attended: Any = None) -> None:
        """Count the tokens of this pass as seen, and ask the policy what stays.

        Called once per pass: by the model, after the last block; of a layer's own cache by the layer.
        """
        if self.places is not None:
            self.places = self.order(tokens)
        self.mask = self.seen(tokens)
        self.count += tokens.count
        self.passes += 1
        for turn in self._turns.values():
            turn.advance(tokens)
        if self.policy is None or (self.looks or self.gathers) != (attended is not None):
            return
        stays = self.policy.stays(self, attended)
        if stays is not None:
            self.keep(stays)
            if self.policy.closes:
                self.close()

    def keep(self, stays: Bool[Tensor, "#B M"] | Bool[Tensor, "B G M"]) -> None:
        """Drop all held tokens but those that stay; those to come go on counting from all that were seen."""
        if self.mask is not None:
            stays = stays & (self.mask if stays.ndim == 2 else self.mask[:, None])
        columns, real = compact(stays)
        columns = columns[0] if columns.ndim == 2 and len(columns) == 1 else columns
        if self.places is None:
            behind = torch.arange(self.count, device=columns.device)[None] if self.mask is None else order(self.mask)
            self.places = behind[:, None]
        before = self.offset()
        self.places = take(self.places, columns)
        real = real if real.ndim == 2 else real[:, 0]
        self.mask = None if self.mask is None and bool(real.all()) else real
        self.count = columns.shape[-1]
        self._dropped = self._dropped + before - self.offset()
        for held in self._columns():
            held.take(columns)
        for turn in self._turns.values():
            turn.keep(stays)

    def listen(
        self, owner: nn.Module, got: Float[Tensor, "B G M"], real: Bool[Tensor, "B G M"], memories: MemoryPolicy
    ) -> None:
        """Count what the tokens of a memory received in this pass, and drop those that are not kept."""
        kept = self.states[owner] = {**self.states[owner], "received": self.states[owner].get("received", 0) + got}
        stays = memories.stays(kept["received"], real, self.passes + 1)
        if stays is not None:
            columns, left = compact(stays & real)
            self.states[owner] = {name: take(each, columns) for name, each in kept.items()} | {"real": left}

    def close(self) -> None:
        """Move the held tokens up, so that they stand one after the other and the last one where it stood."""
        assert self.places is not None
        behind = torch.arange(self.count, device=self.places.device)[None] if self.mask is None else order(self.mask)
        places = behind + self.offset() - (self.count if self.mask is None else self.mask.sum(1, keepdim=True))
        by, self.places = places - self.places[:, 0], places[:, None]
        for owner, move in self.moves.items():
            self.exchange(owner, **move(self.held(owner), by))
        for turn in self._turns.values():
            turn.close()

    @property
    def rewinds(self) -> bool:
        """Whether tokens can be forgotten again: all that is kept stands in columns, or belongs to a memory.

        What layers dropped by themselves for the sake of tokens that are to be forgotten does not come back.
        """
        return (
            not self.looks
            and self.memories is None
            and all("memory" in getattr(owner, "capabilities", ()) for owner in self.states)
            and all(turn.rewinds for turn in self._turns.values())
        )

    def rewind(self, columns: int, real: Bool[Tensor, "B M"] | None = None) -> None:
        """Forget the last `columns`; `real` says which of the last of those left are not to be seen either."""
        self.count -= columns
        for held in self._columns():
            held.cut(self.count)
        mask = None if self.mask is None else self.mask[:, : self.count]
        if real is not None:
            before = self.count - real.shape[1]
            past = real.new_ones(len(real), before) if mask is None else mask[:, :before]
            mask = torch.cat((past, real), 1)
        self.mask = mask
        if self.places is not None:
            self.places = self.places[..., : self.count]
        for turn in self._turns.values():
            turn.rewind(columns, real)

    def seen(self, tokens: Tokens) -> Tensor | None:
        """The mask (B, count + N) over the tokens cached and those of this pass."""
        if self.mask is None and tokens.mask is None:
            return None
        shape = tokens.values.shape[0], self.count
        past = self.mask if self.mask is not None else tokens.values.new_ones(shape, dtype=torch.bool)
        now = tokens.mask
        if now is None:
            now = tokens.values.new_ones(tokens.values.shape[:2], dtype=torch.bool)
        return torch.cat((past, now), dim=1)

    def order(self, tokens: Tokens) -> Int[Tensor, "#B #G M"]:
        """Where each token held and each of this pass stands in its sequence, by key head where those differ."""
        if self.places is None:
            seen = self.seen(tokens)
            if seen is not None:
                return order(seen)[:, None]
            return torch.arange(self.count + tokens.count, device=tokens.values.device)[None, None]
        now = (
            torch.arange(tokens.count, device=tokens.values.device)[None] if tokens.mask is None else order(tokens.mask)
        )
        now = (now + self.offset())[:, None]
        shape = max(len(self.places), len(now)), self.places.shape[1], -1
        return torch.cat((self.places.expand(shape), now.expand(shape)), 2)

    def offset(self) -> Tensor | int:
        """How many real tokens each sequence has behind it: (B, 1), or one number for all."""
        return self._dropped + (self.count if self.mask is None else self.mask.sum(1, keepdim=True))

    def select(self, rows: Tensor) -> None:
        """Keep, repeat and reorder sequences, as beam search and finished sequences ask for."""
        for held in self._columns():
            held.pick(rows)
        for owner, kept in self.states.items():
            self.states[owner] = {name: value.index_select(0, rows) for name, value in kept.items()}
        self._reorder(rows)
        for below in self._below():
            below.select(rows)

    def shuffle(self, rows: Tensor) -> None:
        """Reorder sequences that share their memory and their padding, as the beams of one source do."""
        for held in self._columns():
            held.pick(rows)
        for owner, kept in self.states.items():
            if self.memories is not None or "memory" not in getattr(owner, "capabilities", ()):
                self.states[owner] = {name: value.index_select(0, rows) for name, value in kept.items()}
        if self.looks:
            self._reorder(rows)
        for below in self._below():
            below.shuffle(rows)

    def _reorder(self, rows: Tensor) -> None:
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)
        if self.places is not None and len(self.places) > 1:
            self.places = self.places.index_select(0, rows)
        if isinstance(self._dropped, Tensor):
            self._dropped = self._dropped.index_select(0, rows)

    def fork(self) -> Self:
        """Another cache that goes on from here by itself; what both hold is shared."""
        made = copy.copy(self)
        made.columns = {
            owner: {name: held.fork() for name, held in kept.items()} for owner, kept in self.columns.items()
        }
        made.states = {owner: dict(kept) for owner, kept in self.states.items()}
        made.moves = dict(self.moves)
        made._turns = {key: turn.fork() for key, turn in self._turns.items()}
        made._layers = {owner: layer.fork() for owner, layer in self._layers.items()}
        return made

    @property
    def bytes(self) -> int:
        """What the tokens held take, states and memories included."""
        states = sum(value.nbytes for kept in self.states.values() for value in kept.values())
        return sum(held.bytes for held in self._columns()) + states + sum(each.bytes for each in self._below())

    def _columns(self) -> Iterator[Columns]:
        for kept in self.columns.values():
            yield from kept.values()

    def _below(self) -> Iterator[Cache]:
        yield from self._turns.values()
        yield from self._layers.values()
