"""What a whole forward pass shares, beside the tokens."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from everyformer.cache import Cache
from everyformer.errors import BadInput
from everyformer.masks import Mask, full
from everyformer.tokens import Groups, Tokens, order


@dataclass
class Context:
    """What a forward pass shares: set by the model and its backbones, read by any part."""

    mask: Mask = field(default_factory=full)
    """Which token may see which, at the place where a part stands: set by the backbone."""
    memory: dict[str, Tokens] = field(default_factory=dict)
    """What cross-attention attends to, by name ('encoder' for an encoder's output)."""
    seen: dict[str, Tensor] = field(default_factory=dict)
    """Which tokens of a memory each query may see, (B, N, M), by the name of the memory; all of one that is not named."""
    grids: tuple[tuple[int, int], ...] | None = None
    """The grids that the tokens fill one after the other, where they are the cells of several levels."""
    condition: Tensor | None = None
    """(B, D) or (B, N, D): what adaptive norms are conditioned on (time, class)."""
    ids: Tensor | None = None
    """(B,): which sample of the data each is, so that what is kept of it is not given back to it; None: none that is kept."""
    cache: Cache | None = None
    positions: Any = None
    """The position part that the layers of a backbone share."""
    generator: torch.Generator | None = None
    lead: int = 0
    """How many tokens of the cache stand before the first that positions are counted from."""
    share: float = 1.0
    """How much of nested parts works in this pass: their first hidden units, of all."""
    lowered: dict[Any, Any] = field(default_factory=dict)
    """Masks made ready for a kernel, shared by the layers of one pass."""
    notes: dict[str, Tensor] | None = None
    """What parts say beside the answer for an objective to read (each of several answers, by name); None: nobody asks."""
    attended: list[Any] | None = None
    """What the last mixer attended with, where it shows that, for a reduction to come; None: nobody asks."""
    gathered: list[Any] | None = None
    """What every mixer of the pass attended with, of those that show it, in order; None: nobody asks."""
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

    def fork(self) -> Self:
        """This context as it stands: what parts write to one does not reach the other."""
        return self.replace(
            lowered={key: copy.copy(each) if isinstance(each, list) else each for key, each in self.lowered.items()},
            notes=copy.copy(self.notes), attended=copy.copy(self.attended), gathered=copy.copy(self.gathered),
            levels=copy.copy(self.levels), generator=None if self.generator is None else self.generator.clone_state(),
        )  # fmt: skip

    def layer(self, owner: nn.Module) -> Self:
        """This context for one layer: with a cache of its own, and masks for what that holds, where a policy asks for it."""
        if self.cache is None or not self.cache.looks:
            return self
        return self.replace(cache=self.cache.layer(owner), lowered={})

    @property
    def asked(self) -> bool:
        """Whether anybody asks what a mixer attends with."""
        looks = self.cache is not None and self.cache.looks
        return looks or self.attended is not None or self.gathered is not None

    def show(self, attended: Any) -> None:
        """Tell those who ask what a mixer attends with; a policy that looks is asked by the mixer itself, at its end."""
        for asking in (self.attended, self.gathered):
            if asking is not None:
                asking.append(attended)

    def read(self, name: str, reader: str = "cross-attention") -> Tokens:
        """A memory by its name; one that is not there is refused, with what is."""
        if name not in self.memory:
            raise BadInput(
                f"{reader} reads the memory '{name}', and the context holds {sorted(self.memory) or 'none'}; pass "
                f"Context(memory={{'{name}': tokens}})"
            )
        return self.memory[name]

    def past(self) -> int:
        """How many tokens the cache holds."""
        return 0 if self.cache is None else self.cache.count

    def select(self, rows: Tensor) -> None:
        """Keep and reorder the sequences of cache and memory."""
        if self.cache is not None:
            self.cache.select(rows)
        kept = self.rows(rows)
        self.memory, self.seen, self.condition, self.ids = kept.memory, kept.seen, kept.condition, kept.ids
        self.lowered.clear()

    def rows(self, rows: Tensor) -> Self:
        """This context for some of the sequences, its cache left out."""
        memory = {name: rows_of(tokens, rows) for name, tokens in self.memory.items()}
        seen = {name: each.index_select(0, rows) for name, each in self.seen.items()}
        condition = None if self.condition is None else self.condition.index_select(0, rows)
        ids = None if self.ids is None else self.ids.index_select(0, rows)
        return self.replace(memory=memory, seen=seen, condition=condition, ids=ids, cache=None, lowered={})


def sizes(*shape: int) -> tuple[int, ...]:
    """Sizes as part of a key of `lowered`; none in a graph, which a size that it asks for would be fixed to."""
    return () if torch.compiler.is_compiling() else shape


def rows_of(tokens: Tokens, rows: Tensor) -> Tokens:
    """Some of the sequences of a batch, in that order."""

    def pick(x: Tensor | None) -> Tensor | None:
        return x if x is None or x.shape[0] == 1 != tokens.batch else x.index_select(0, rows)

    return tokens.replace(
        values=tokens.values.index_select(0, rows),
        mask=pick(tokens.mask),
        positions=pick(tokens.positions),
        weights=pick(tokens.weights),
        origin=pick(tokens.origin),
        marked=pick(tokens.marked),
        source=None if tokens.source is None else rows_of(tokens.source, rows),
    )


def running_positions(mask: Tensor | None, count: int, device: torch.device, context: Context) -> Tensor:
    """Positions (#B, N, 1) of `count` new tokens: they go on where the cache of each sequence ends.

    Padding on either side takes no position, so a sequence has the same positions however its batch is padded.
    """
    places = torch.arange(count, device=device)[None] if mask is None else order(mask)
    if context.cache is not None:
        places = places + context.cache.offset() - context.lead
    return places[..., None]
