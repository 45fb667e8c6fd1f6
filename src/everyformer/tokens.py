"""Tokens, the one value that parts hand on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.utils import _pytree


@dataclass(slots=True)
class Tokens:
    """A batch of sequences of vectors, with what is known about each token.

    Packed tokens (`lengths` is set) have B = 1: the sequences stand one after the other without padding.
    """

    values: Float[Tensor, "B N D"]
    mask: Bool[Tensor, "B N"] | None = None
    """True where a token is real; None where all are."""
    positions: Shaped[Tensor, "#B N k"] | None = None
    """Where each token stood in its source (k = 1 text, 2 image, 3 video or space); None: 0, 1, 2, ..."""
    grid: tuple[int, ...] | None = None
    """Set while the tokens after `prefix` fill a regular grid in row-major order."""
    prefix: int = 0
    """How many leading tokens (class, register) belong to no place in the source."""
    weights: Float[Tensor, "B N"] | None = None
    """How many source tokens each token stands for; None: one each."""
    origin: Int[Tensor, "B S"] | Float[Tensor, "B S N"] | None = None
    """Which of these tokens each source token went into, -1 for none, or its shares in them; None: each into itself."""
    lengths: Int[Tensor, " S"] | None = None
    """The lengths of packed sequences; None where the batch is not packed."""
    marked: Bool[Tensor, "B N"] | None = None
    """True for tokens that some parts treat apart, as those that see all and are seen by all; None where none are."""
    source: Tokens | None = None
    """The source tokens, of width 0, that `origin` speaks of: where they stood, which were real, their grid."""

    def replace(self, **changes: Any) -> Self:
        """The same tokens with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def update(self, values: Float[Tensor, "B N D"]) -> Self:
        """The same tokens with other values."""
        return type(self)(
            values, self.mask, self.positions, self.grid, self.prefix, self.weights, self.origin, self.lengths,
            self.marked,
            self.source,
        )  # fmt: skip

    @property
    def batch(self) -> int:
        """B."""
        return self.values.shape[0]

    @property
    def count(self) -> int:
        """N."""
        return self.values.shape[1]

    @property
    def width(self) -> int:
        """D."""
        return self.values.shape[2]

    @property
    def places(self) -> Shaped[Tensor, "#B N k"]:
        """Positions, made from the order of the tokens where none were given."""
        if self.positions is not None:
            return self.positions
        if self.lengths is not None:
            return within(self.lengths, self.count)[None, :, None]
        if self.mask is not None:
            return order(self.mask)[..., None]
        return torch.arange(self.count, device=self.values.device)[None, :, None]

    def zeroed(self) -> Float[Tensor, "B N D"]:
        """Values with padding set to zero."""
        return self.values if self.mask is None else self.values * self.mask[..., None]

    def spread(self, given: Shaped[Tensor, " S *d"]) -> Shaped[Tensor, " B #N *d"]:
        """What is known of each sequence, for each of its tokens."""
        return given[:, None] if self.lengths is None else given[documents(self.lengths, self.count)][None]

    def mean(self, skip: int = 0) -> Float[Tensor, "B D"]:
        """Mean over the real tokens after the first `skip`, each counted by its weight; (S, D) if packed."""
        share = torch.ones(self.values.shape[:2], dtype=self.values.dtype, device=self.values.device)
        if self.mask is not None:
            share = share * self.mask
        if self.weights is not None:
            share = share * self.weights
        if self.lengths is not None:
            share = share * (within(self.lengths, self.count) >= skip)
            owner = documents(self.lengths, self.count)
            total = self.values.new_zeros(self.lengths.shape[0], self.width)
            total = total.index_add(0, owner, self.values[0] * share[0, :, None])
            size = self.values.new_zeros(self.lengths.shape[0]).index_add(0, owner, share[0])
            return total / size.clamp(min=1e-6)[:, None]
        share = share[:, skip:]
        return (self.values[:, skip:] * share[..., None]).sum(1) / share.sum(1).clamp(min=1e-6)[:, None]


_pytree.register_dataclass(Tokens)


def order(mask: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """The place of each real token in its sequence: 0, 1, 2, ..., wherever the padding stands."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def documents(lengths: Int[Tensor, " S"], total: int) -> Int[Tensor, " T"]:
    """Which of the packed sequences each token belongs to."""
    return torch.repeat_interleave(torch.arange(lengths.shape[0], device=lengths.device), lengths, output_size=total)


def within(lengths: Int[Tensor, " S"], total: int) -> Int[Tensor, " T"]:
    """The place of each packed token in its own sequence."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(total, device=lengths.device) - starts.repeat_interleave(lengths, output_size=total)


def pack(tokens: Tokens) -> Tokens:
    """Padded tokens without their padding, one sequence after the other."""
    mask = tokens.mask if tokens.mask is not None else tokens.values.new_ones(tokens.values.shape[:2]).bool()
    places = tokens.places
    places = places.expand(tokens.batch, -1, -1)[mask][None]
    return Tokens(
        tokens.values[mask][None],
        positions=places,
        prefix=tokens.prefix,
        weights=None if tokens.weights is None else tokens.weights[mask][None],
        lengths=mask.sum(1),
        marked=None if tokens.marked is None else tokens.marked[mask][None],
    )


def unpack(tokens: Tokens, values: Tensor | None = None) -> Tokens:
    """Packed tokens as a batch padded on the right; `values` (1, T, ...) stands in for their own if given."""
    assert tokens.lengths is not None
    lengths = tokens.lengths
    longest = int(lengths.max())
    mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return Tokens(
        spread(tokens.values if values is None else values, mask),
        mask=mask,
        positions=spread(tokens.places, mask),
        prefix=tokens.prefix,
        weights=None if tokens.weights is None else spread(tokens.weights, mask),
        marked=None if tokens.marked is None else spread(tokens.marked, mask),
    )


def spread(packed: Shaped[Tensor, "1 T *d"], mask: Bool[Tensor, "B N"]) -> Shaped[Tensor, "B N *d"]:
    """Packed tokens where `mask` is true, zeros elsewhere."""
    padded = packed.new_zeros(*mask.shape, *packed.shape[2:])
    padded[mask] = packed[0]
    return padded


class Groups:
    """Packed sequences by length: those of equal length are one dense batch, and nothing is padding."""

    def __init__(self, lengths: Int[Tensor, " S"], total: int) -> None:
        sizes, order = lengths.sort(stable=True)
        starts = (lengths.cumsum(0) - lengths)[order]
        moved = (starts - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes, output_size=total)
        self.index = torch.arange(total, device=lengths.device) + moved
        self.back = self.index.argsort()
        found = zip(*(each.tolist() for each in sizes.unique_consecutive(return_counts=True)), strict=True)
        self.shapes = [(count, size) for size, count in found if size]
        """(S, N) of each group, the shortest first."""

    def apart(self, packed: Shaped[Tensor, "1 T *d"]) -> list[Shaped[Tensor, "S N *d"]]:
        """The batch of each group."""
        pieces = packed[0].index_select(0, self.index).split([count * size for count, size in self.shapes])
        return [piece.unflatten(0, shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def together(self, groups: list[Shaped[Tensor, "S N *d"]]) -> Shaped[Tensor, "1 T *d"]:
        """The inverse of `apart`."""
        return torch.cat([each.flatten(0, 1) for each in groups]).index_select(0, self.back)[None]

    def tokens(self, packed: Tokens, values: Tensor | None = None) -> list[Tokens]:
        """The groups as tokens; `values` (1, T, ...) stands in for their own if given."""

        def each(x: Tensor | None) -> list[Any]:
            return [None] * len(self.shapes) if x is None else self.apart(x)

        fields = (packed.values if values is None else values), packed.positions, packed.weights, packed.marked
        return [
            Tokens(values, positions=positions, prefix=packed.prefix, weights=weights, marked=marked)
            for values, positions, weights, marked in zip(*map(each, fields), strict=True)
        ]


def take(x: Shaped[Tensor, "#B N ..."], index: Int[Tensor, "B K"]) -> Shaped[Tensor, "B K ..."]:
    """The rows of each sequence at `index`."""
    batch, count = index.shape[0], x.shape[1]
    x = x.expand(batch, *x.shape[1:])
    flat = index + torch.arange(batch, device=index.device)[:, None] * count
    return x.flatten(0, 1).index_select(0, flat.flatten()).unflatten(0, index.shape)
