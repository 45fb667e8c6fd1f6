"""Tables of vectors, one for each id, that are no plain matrix of weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.dropout import Dropout
from everyformer.registry import Part, part


class Table(Part):
    """Base of tables: `forward(ids)` gives the vector of each id; built with a width and the size of a vocabulary."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.width, self.vocabulary = width, vocabulary

    def forward(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n D"]:
        """The vectors of these ids."""
        raise NotImplementedError

    def rows(self) -> Float[Tensor, "V D"]:
        """The vectors of all ids, as an output layer wants them: nothing dropped."""
        raise NotImplementedError


class Rows(nn.Module):
    """h E^T + b, the output layer that is tied to a table."""

    def __init__(self, table: Table, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.table, self.bias = table, bias
        self.in_features, self.out_features = table.width, table.vocabulary

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """The logit of every id."""
        return F.linear(values, self.table.rows(), self.bias)


@part("embeddings")
class FixedVectors(Table):
    """Vectors that are never trained: random ones of length 1, until others are put in their place."""

    vectors: Tensor

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__(width, vocabulary)
        self.register_buffer("vectors", F.normalize(torch.randn(vocabulary, width), dim=-1))

    def forward(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n D"]:
        """The vectors of these ids."""
        return F.embedding(ids, self.vectors)

    def rows(self) -> Float[Tensor, "V D"]:
        """All vectors."""
        return self.vectors


class _Filtered(Table):
    """W2 relu(W1 (m * o)): one learned vector o through a fixed filter m of each id and a small network.

    Of `books` codebooks of `codes` random vectors each id has one of each, drawn once and kept with the weights, so that
    what is learned does not grow with the vocabulary. It starts as in the authors' code, whatever the model's start: a small
    start of all three is a product that hardly tells the words apart.
    """

    power: ClassVar[float]
    """o starts normal with the sum of both widths to this power."""
    codebooks: Tensor
    chosen: Tensor

    def __init__(
        self, width: int, vocabulary: int, *, hidden: int = 4096, books: int = 8, codes: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__(width, vocabulary)
        self.base = nn.Parameter(torch.randn(width) * (width + hidden) ** self.power)
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        for each in (self.up, self.down):
            nn.init.xavier_uniform_(each.weight)
            each.own_init = True  # type: ignore[assignment]
        self.dropout = Dropout(dropout) if dropout else None
        self.register_buffer("codebooks", self.draw(books, codes))
        self.register_buffer("chosen", torch.randint(codes, (vocabulary, books)))

    def draw(self, books: int, codes: int) -> Float[Tensor, "books codes D"]:
        """The codebooks."""
        raise NotImplementedError

    def filters(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n D"]:
        """The filter of each id."""
        books = torch.arange(len(self.codebooks), device=ids.device)
        return self.codebooks[books, self.chosen[ids]].sum(-2)

    def forward(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n D"]:
        """The vectors of these ids."""
        return self._network(ids, self.dropout)

    def rows(self) -> Float[Tensor, "V D"]:
        """The vectors of all ids, nothing dropped (their code, `construct_matrix_for_output_layer`)."""
        return self._network(torch.arange(self.vocabulary, device=self.base.device), None)

    def _network(self, ids: Tensor, dropout: nn.Module | None) -> Tensor:
        hidden = F.relu(self.up(self.filters(ids) * self.base))
        return self.down(hidden if dropout is None else dropout(hidden))


@part("embeddings")
class BinaryFilters(_Filtered):
    """All vectors from one through filters of zeros and ones (Takase and Kobayashi, ALONE, 2020, section 3.1).

    e = W2 relu(W1 (m * o)) with m the union of `books` drawn vectors of bits, each bit of m zero with chance `empty`.
    """

    power = -0.05

    def __init__(
        self,
        width: int,
        vocabulary: int,
        *,
        hidden: int = 4096,
        books: int = 8,
        codes: int = 64,
        empty: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        self.empty = empty
        super().__init__(width, vocabulary, hidden=hidden, books=books, codes=codes, dropout=dropout)

    def draw(self, books: int, codes: int) -> Tensor:
        """Bits that are one with chance 1 - empty^(1 / books)."""
        return (torch.rand(books, codes, self.width) >= self.empty ** (1 / books)).float()

    def filters(self, ids: Tensor) -> Tensor:
        """1 where any of the vectors of an id has a one."""
        return super().filters(ids).clamp(max=1)


@part("embeddings")
class RealFilters(_Filtered):
    """The same with filters of normal numbers, sums of `books` drawn vectors (section 3.1)."""

    power = -0.3

    def draw(self, books: int, codes: int) -> Tensor:
        """Numbers of variance 1 / books, so that their sums have variance 1."""
        return torch.randn(books, codes, self.width) * books**-0.5
