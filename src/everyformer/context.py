"""What a whole forward pass shares, beside the tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from everyformer.masks import Mask, full
from everyformer.tokens import Groups, Tokens, order

if TYPE_CHECKING:
    from torch import nn


class Policy:
    """Base of cache policies: asked after each pass which of the cached tokens to keep."""

    closes: bool = False
    """Whether the gap that is left is closed: tokens that stood before it move up to those that stand after it."""

    def keep(self, cache: Cache) -> Int[Tensor, " M"] | Int[Tensor, "B M"] | None:
        """The columns of the cache that stay, in order, the same for all sequences or for each; None for all."""
        raise NotImplementedError


class Cache:
    """What incremental mixers keep of the tokens seen so far; one entry per module, batch first in every tensor."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.states: dict[nn.Module, dict[str, Tensor]] = {}
        self.policy = policy
        self.count = 0
        """Tokens held, padding included: the width of the cache."""
        self.mask: Tensor | None = None
        """(B, count), true where a cached token is real; None where all are."""
        self.places: Tensor | None = None
        """(#B, count), where each held token stood in its sequence, once any were dropped; None before."""
        self.moves: dict[nn.Module, Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]] = {}
        """How the entry of a module changes when its tokens move by (#B, M) places."""
        self._dropped: Tensor | int = 0
        self._grown: dict[tuple[nn.Module, str], tuple[Tensor, Tensor]] = {}
        self._turns: dict[tuple[nn.Module, int], Cache] = {}

    def turn(self, loop: nn.Module, number: int) -> Cache:
        """The cache of one turn of a loop, whose modules run several times in a pass; it keeps step with this one."""
        if (loop, number) not in self._turns:
            made = self._turns[loop, number] = Cache()
            made.count, made.mask, made.places, made._dropped = self.count, self.mask, self.places, self._dropped
        return self._turns[loop, number]

    def extend(self, owner: nn.Module, **new: Tensor) -> dict[str, Tensor]:
        """Append tensors (B, H, N, K) to the entry of `owner` and return the whole of it."""
        old = self.states.get(owner)
        if old is None:
            self._grown.update({(owner, name): (value, value) for name, value in new.items()})
        else:
            new = {name: self._append((owner, name), old[name], value) for name, value in new.items()}
        self.states[owner] = new
        return new

    def _append(self, key: tuple[nn.Module, str], held: Tensor, new: Tensor) -> Tensor:
        """Written into a buffer with room to spare, so that each token is copied a fixed number of times."""
        if torch.is_grad_enabled() and (held.requires_grad or new.requires_grad):
            return torch.cat((held, new), dim=2)
        count, total = held.shape[2], held.shape[2] + new.shape[2]
        buffer, view = self._grown.get(key, (held, held))
        if view is not held or buffer is held or buffer.shape[2] < total:
            buffer = held.new_empty(*held.shape[:2], 2 * total, *held.shape[3:])
            buffer[:, :, :count] = held
        buffer[:, :, count:total] = new
        self._grown[key] = buffer, buffer[:, :, :total]
        return self._grown[key][1]

    def advance(self, tokens: Tokens) -> None:
        """Count the tokens of this pass as seen; called once per pass, by the model, after the last block."""
        if self.places is not None:
            self.places = self.order(tokens)
        self.mask = self.seen(tokens)
        self.count += tokens.count
        for turn in self._turns.values():
            turn.advance(tokens)
        columns = None if self.policy is None else self.policy.keep(self)
        if columns is not None:
            self.keep(columns)
            if self.policy.closes:
                self.close()

    def keep(self, columns: Int[Tensor, " M"] | Int[Tensor, "B M"]) -> None:
        """Drop all held tokens but those at `columns`; those to come go on counting from all that were seen."""
        if self.places is None:
            self.places = (
                torch.arange(self.count, device=columns.device)[None] if self.mask is None else order(self.mask)
            )
        before = self.offset()
        self.places = _columns(self.places, 1, columns)
        self.mask = None if self.mask is None else _columns(self.mask, 1, columns)
        self.count = columns.shape[-1]
        self._dropped = self._dropped + before - self.offset()
        for owner, name in list(self._grown):
            self._replace(owner, name, _columns(self.states[owner][name], 2, columns))
        for turn in self._turns.values():
            turn.keep(columns)

    def close(self) -> None:
        """Move the held tokens up, so that they stand one after the other and the last one where it stood."""
        assert self.places is not None
        behind = torch.arange(self.count, device=self.places.device)[None] if self.mask is None else order(self.mask)
        places = behind + self.offset() - (self.count if self.mask is None else self.mask.sum(1, keepdim=True))
        by, self.places = places - self.places, places
        for owner, move in self.moves.items():
            for name, value in move(self.states[owner], by).items():
                self._replace(owner, name, value)
        for turn in self._turns.values():
            turn.close()

    def _replace(self, owner: nn.Module, name: str, held: Tensor) -> None:
        self.states[owner][name], self._grown[owner, name] = held, (held, held)

    @property
    def rewinds(self) -> bool:
        """Whether tokens can be forgotten again: all that is kept stands in columns, or belongs to a memory."""
        return all(
            "memory" in getattr(owner, "capabilities", ()) or all((owner, name) in self._grown for name in kept)
            for owner, kept in self.states.items()
        ) and all(turn.rewinds for turn in self._turns.values())

    def rewind(self, columns: int, real: Bool[Tensor, "B M"] | None = None) -> None:
        """Forget the last `columns`; `real` says which of the last of those left are not to be seen either."""
        self.count -= columns
        for owner, name in self._grown:
            buffer, view = self._grown[owner, name]
            self.states[owner][name] = view[:, :, : self.count]
            self._grown[owner, name] = view if buffer is view else buffer, self.states[owner][name]
        mask = None if self.mask is None else self.mask[:, : self.count]
        if real is not None:
            before = self.count - real.shape[1]
            past = real.new_ones(len(real), before) if mask is None else mask[:, :before]
            mask = torch.cat((past, real), 1)
        self.mask = mask
        if self.places is not None:
            self.places = self.places[:, : self.count]
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

    def order(self, tokens: Tokens) -> Tensor:
        """Where each token held and each of this pass stands in its sequence: (#B, count + N)."""
        if self.places is None:
            seen = self.seen(tokens)
            if seen is not None:
                return order(seen)
            return torch.arange(self.count + tokens.count, device=tokens.values.device)[None]
        now = (
            torch.arange(tokens.count, device=tokens.values.device)[None] if tokens.mask is None else order(tokens.mask)
        )
        now = now + self.offset()
        batch = max(len(self.places), len(now))
        return torch.cat((self.places.expand(batch, -1), now.expand(batch, -1)), 1)

    def offset(self) -> Tensor | int:
        """How many real tokens each sequence has behind it: (B, 1), or one number for all."""
        return self._dropped + (self.count if self.mask is None else self.mask.sum(1, keepdim=True))

    def select(self, rows: Tensor) -> None:
        """Keep, repeat and reorder sequences, as beam search and finished sequences ask for."""
        for owner, kept in self.states.items():
            self.states[owner] = {name: self._pick((owner, name), value, rows) for name, value in kept.items()}
        if self.mask is not None:
            self.mask = self.mask.index_select(0, rows)
        if self.places is not None and len(self.places) > 1:
            self.places = self.places.index_select(0, rows)
        if isinstance(self._dropped, Tensor):
            self._dropped = self._dropped.index_select(0, rows)
        for turn in self._turns.values():
            turn.select(rows)

    def shuffle(self, rows: Tensor) -> None:
        """Reorder sequences that share their memory and their padding, as the beams of one source do."""
        for owner, kept in self.states.items():
            if "memory" not in getattr(owner, "capabilities", ()):
                self.states[owner] = {name: self._pick((owner, name), value, rows) for name, value in kept.items()}
        for turn in self._turns.values():
            turn.shuffle(rows)

    def _pick(self, key: tuple[nn.Module, str], held: Tensor, rows: Tensor) -> Tensor:
        buffer, view = self._grown.get(key, (held, held))
        if view is not held or buffer is held:
            picked = held.index_select(0, rows)
            if key in self._grown:
                self._grown[key] = picked, picked
            return picked
        buffer = buffer.new_empty(len(rows), *buffer.shape[1:])
        picked = buffer[:, :, : held.shape[2]]
        torch.index_select(held, 0, rows, out=picked)
        self._grown[key] = buffer, picked
        return picked


def _columns(x: Tensor, dim: int, columns: Tensor) -> Tensor:
    """Of dimension `dim` the columns (M,), or (B, M) for each sequence its own."""
    columns = columns.to(x.device)
    if columns.ndim == 1:
        return x.index_select(dim, columns)
    x = x.expand(len(columns), *x.shape[1:])
    index = columns.view(len(columns), *(1,) * (dim - 1), -1, *(1,) * (x.ndim - dim - 1))
    return x.gather(dim, index.expand(*x.shape[:dim], -1, *x.shape[dim + 1 :]))


@dataclass
class Context:
    """What a forward pass shares: set by the model and its backbones, read by any part."""

    mask: Mask = field(default_factory=full)
    """Which token may see which, at the place where a part stands: set by the backbone."""
    memory: dict[str, Tokens] = field(default_factory=dict)
    """What cross-attention attends to, by name ('encoder' for an encoder's output)."""
    condition: Tensor | None = None
    """(B, D) or (B, N, D): what adaptive norms are conditioned on (time, class)."""
    cache: Cache | None = None
    positions: Any = None
    """The position part that the layers of a backbone share."""
    generator: torch.Generator | None = None
    share: float = 1.0
    """How much of nested parts works in this pass: their first hidden units, of all."""
    lowered: dict[Any, Any] = field(default_factory=dict)
    """Masks made ready for a kernel, shared by the layers of one pass."""
    notes: dict[str, Tensor] | None = None
    """What parts say beside the answer for an objective to read (each of several answers, by name); None: nobody asks."""
    attended: list[Any] | None = None
    """What the last mixer attended with, where it shows that, for a reduction to come; None: nobody asks."""
    levels: dict[nn.Module, Tokens] | None = None
    """What each level of the body gave (each stage of a pyramid, each block of an encoder), in order; None: nobody asks."""

    def groups(self, packed: Tokens) -> Groups:
        """The packed sequences of this pass by length, worked out once."""
        assert packed.lengths is not None
        key = "groups", id(packed.lengths)
        if key not in self.lowered:
            self.lowered[key] = packed.lengths, Groups(packed.lengths, packed.count)
        found: Groups = self.lowered[key][1]
        return found

    def replace(self, **changes: Any) -> Self:
        """The same context with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def past(self) -> int:
        """How many tokens the cache holds."""
        return 0 if self.cache is None else self.cache.count

    def select(self, rows: Tensor) -> None:
        """Keep and reorder the sequences of cache and memory."""
        if self.cache is not None:
            self.cache.select(rows)
        self.memory = {name: _rows(tokens, rows) for name, tokens in self.memory.items()}
        if self.condition is not None:
            self.condition = self.condition.index_select(0, rows)
        self.lowered.clear()


def sizes(*shape: int) -> tuple[int | str, ...]:
    """Sizes as part of a key of `lowered`: one that an export leaves open is a symbol, which only its name can stand for."""
    return tuple(size if isinstance(size, int) else str(size) for size in shape)


def _rows(tokens: Tokens, rows: Tensor) -> Tokens:
    def pick(x: Tensor | None) -> Tensor | None:
        return x if x is None or x.shape[0] == 1 != tokens.batch else x.index_select(0, rows)

    return tokens.replace(
        values=tokens.values.index_select(0, rows),
        mask=pick(tokens.mask),
        positions=pick(tokens.positions),
        weights=pick(tokens.weights),
        origin=pick(tokens.origin),
        marked=pick(tokens.marked),
        source=None if tokens.source is None else _rows(tokens.source, rows),
    )


def running_positions(mask: Tensor | None, count: int, device: torch.device, context: Context) -> Tensor:
    """Positions (#B, N, 1) of `count` new tokens: they go on where the cache of each sequence ends.

    Padding on either side takes no position, so a sequence has the same positions however its batch is padded.
    """
    places = torch.arange(count, device=device)[None] if mask is None else order(mask)
    if context.cache is not None:
        places = places + context.cache.offset()
    return places[..., None]
