"""How one of our tensors is laid out in theirs; each form is read both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Form:
    """Base of forms."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        raise NotImplementedError

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Their tensors from ours, None for one that another pair writes; `sizes` are the rows of fused parts."""
        raise NotImplementedError


@dataclass(frozen=True)
class Joined(Form):
    """Theirs one under the other; `transposed`: each stored (inputs, outputs)."""

    transposed: bool = False

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        found = [each.mT if self.transposed else each for each in theirs]
        return torch.cat(found) if len(found) > 1 else found[0]

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, cut apart."""
        parts = ours.split(list(sizes)) if len(sizes) > 1 else [ours]
        return [each.mT if self.transposed else each for each in parts]


@dataclass(frozen=True)
class Interleaved(Form):
    """One fused tensor whose rows are (heads, parts, K), where ours are (parts, heads, K): GPT-NeoX, BLOOM."""

    heads: int
    parts: int = 3

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return theirs[0].unflatten(0, (self.heads, self.parts, -1)).transpose(0, 1).flatten(0, 2)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, heads first."""
        return [ours.unflatten(0, (self.parts, self.heads, -1)).transpose(0, 1).flatten(0, 2)]


@dataclass(frozen=True)
class Wrapped(Form):
    """Theirs has `before` axes of length one in front of ours, and `after` behind."""

    before: int = 0
    after: int = 0

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return theirs[0].flatten(0, self.before).flatten(-1 - self.after)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, with the axes put back."""
        return [ours[(None,) * self.before + (...,) + (None,) * self.after]]


@dataclass(frozen=True)
class Uncounted(Form):
    """How many batches a norm has seen, which theirs, whose norms are frozen, does not say: made of nothing."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """None."""
        return torch.tensor(0)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Nothing."""
        return []


@dataclass(frozen=True)
class Squeezed(Form):
    """Theirs has an axis of length one at place `axis`, which ours has not."""

    axis: int

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return theirs[0].squeeze(self.axis)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, with the axis put back."""
        return [ours.unsqueeze(self.axis)]


@dataclass(frozen=True)
class Pointwise(Form):
    """A linear map (E, D), where ours is a convolution of single cells (E, D, 1, 1)."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return theirs[0][:, :, None, None]

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, without the axes of cells."""
        return [ours.flatten(1)]


@dataclass(frozen=True)
class Leading(Form):
    """Learned tokens, (1, 1, D) each, to which the first rows of a table of positions (1, N, D), given last, are added.

    Written back, the tokens hold the sum and those rows are zero (see `Following`). `bare`: a token (D,) and a table (N, D).
    """

    bare: bool = False

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our leading tokens (k, D)."""
        *tokens, positions = [each[None] for each in theirs] if self.bare else theirs
        first = torch.cat([each if self.bare else each[0] for each in tokens])
        return first + positions[0, : len(first)]

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Their tokens; the table is written by its own pair."""
        return [*(each if self.bare else each[None, None] for each in ours), None]


@dataclass(frozen=True)
class Following(Form):
    """A table (N, D), or (1, N, D) where `wrapped`, without its first `skip` rows, which are written back as zeros."""

    skip: int
    wrapped: bool = False

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """The rows that count."""
        return (theirs[0][0] if self.wrapped else theirs[0])[self.skip :]

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """The whole table."""
        table = torch.cat((ours.new_zeros(self.skip, ours.shape[1]), ours))
        return [table[None] if self.wrapped else table]


@dataclass(frozen=True)
class Registered(Form):
    """A class token (1, 1, D), to which the first row of a table of positions is added, and registers (1, k, D) after it.

    The table (1, N, D), given last, is written by its own pair.
    """

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our leading tokens."""
        token, registers, positions = theirs
        return torch.cat((token[0] + positions[0, :1], registers[0]))

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Their tokens."""
        return [ours[None, :1], ours[None, 1:], None]


@dataclass(frozen=True)
class Keyless(Form):
    """Biases of values, and of queries where they stand with them; keys, whose bias softmax does not see, have zeros here."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Ours, of keys too."""
        *query, value = theirs
        return torch.cat((*query, torch.zeros_like(value), value))

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs."""
        *query, _, value = ours.chunk(len(sizes) + 1)
        return [*query, value]


@dataclass(frozen=True)
class Shares(Form):
    """Theirs one under the other, of unequal heights: `of` how many equal parts each has."""

    of: tuple[int, ...]

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return torch.cat(list(theirs))

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, cut apart."""
        return list(ours.split([len(ours) // sum(self.of) * each for each in self.of]))


@dataclass(frozen=True)
class Turned(Form):
    """A table (H, R, R) of biases by offset from the query to the key, where ours is (H, R R) by offset from the key."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our table."""
        return theirs[0].flatten(1).flip(1)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs."""
        side = math.isqrt(ours.shape[1])
        return [ours.flip(1).unflatten(1, (side, side))]


@dataclass(frozen=True)
class Rows(Form):
    """The rows of one of theirs from `first` to `last`, in shares of which it has `of`; other tensors of ours are the rest."""

    first: int
    last: int
    of: int

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our rows."""
        return theirs[0].unflatten(0, (self.of, -1))[self.first : self.last].flatten(0, 1)

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Our rows, which `weights.write` puts together with the rest."""
        return [ours]
