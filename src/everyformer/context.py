"""What a whole forward pass shares, beside the tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from everyformer.masks import Full, Mask
from everyformer.tokens import Tokens, order

if TYPE_CHECKING:
    from torch import nn


class Cache:
    """What incremental mixers keep of the tokens seen so far; one entry per module, batch first in every tensor."""

    def __init__(self) -> None:
        self.states: dict[nn.Module, dict[str, Tensor]] = {}
        self.count = 0
        """Tokens seen so far, padding included: the width of the cache."""
        self.mask: Tensor | None = None
        """(B, count), true where a cached token is real; None where all are."""

    def extend(self, owner: nn.Module, **new: Tensor) -> dict[str, Tensor]:
        """Append tensors (B, H, N, K) to the entry of `owner` and return the whole of it."""
        old = self.states.get(owner)
        if old is not None:
            new = {name: torch.cat((old[name], value), dim=2) for name, value in new.items()}
        self.states[owner] = new
        return new

    def advance(self, tokens: Tokens) -> None:
        """Count the tokens of this pass as seen; called once per pass, by the model, after the last block."""
        self.mask = self.seen(tokens)
        self.count += tokens.count

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

    def offset(self) -> Tensor | int:
        """How many real tokens each sequence has behind it: (B, 1), or one number for all."""
        return self.count if self.mask is None else self.mask.sum(1, keepdim=True)

    def select(self, rows: Tensor) -> None:
        """Keep and reorder sequences, as beam search and finished sequences ask for."""
        self.states = {m: {k: v.index_select(0, rows) for k, v in s.items()} for m, s in self.states.items()}
        if self.mask is not None:
            self.mask = self.mask.index_select(0, rows)

    def shuffle(self, rows: Tensor) -> None:
        """Reorder sequences that share their memory and their padding, as the beams of one source do."""
        for owner, kept in self.states.items():
            if "memory" not in getattr(owner, "capabilities", ()):
                self.states[owner] = {name: value.index_select(0, rows) for name, value in kept.items()}


@dataclass
class Context:
    """What a forward pass shares: set by the model and its backbones, read by any part."""

    mask: Mask = field(default_factory=Full)
    """Which token may see which, at the place where a part stands: set by the backbone."""
    memory: dict[str, Tokens] = field(default_factory=dict)
    """What cross-attention attends to, by name ('encoder' for an encoder's output)."""
    condition: Tensor | None = None
    """(B, D) or (B, N, D): what adaptive norms are conditioned on (time, class)."""
    cache: Cache | None = None
    positions: Any = None
    """The position part that the layers of a backbone share."""
    generator: torch.Generator | None = None
    lowered: dict[Any, Any] = field(default_factory=dict)
    """Masks made ready for a kernel, shared by the layers of one pass."""

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


def _rows(tokens: Tokens, rows: Tensor) -> Tokens:
    def pick(x: Tensor | None) -> Tensor | None:
        return x if x is None or x.shape[0] == 1 != tokens.batch else x.index_select(0, rows)

    return tokens.replace(
        values=tokens.values.index_select(0, rows),
        mask=pick(tokens.mask),
        positions=pick(tokens.positions),
        weights=pick(tokens.weights),
        origin=pick(tokens.origin),
    )


def running_positions(mask: Tensor | None, count: int, device: torch.device, context: Context) -> Tensor:
    """Positions (#B, N, 1) of `count` new tokens: they go on where the cache of each sequence ends.

    Padding on either side takes no position, so a sequence has the same positions however its batch is padded.
    """
    places = torch.arange(count, device=device)[None] if mask is None else order(mask)
    if context.cache is not None:
        places = places + context.cache.offset()
    return places[..., None]
