"""What every embedding does at its end: leading tokens, positions, norm and dropout."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Embedding, Norm, Position
from everyformer.dropout import Dropout
from everyformer.specs import Spec
from everyformer.tokens import Tokens


class Finish(Embedding):
    """Base of embeddings: adds positions, puts `first` learned tokens in front, then norm and dropout."""

    def __init__(
        self,
        width: int,
        *,
        positions: Spec[Position] | None,
        first: int = 0,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.positions = self.make("positions", positions, width, 1)
        if self.positions is not None:
            self.positions.stands_in("embedding")
        self.first = nn.Parameter(torch.randn(first, width) * 0.02) if first else None
        self.norm = self.make("norm", norm, width)
        self.dropout = Dropout(dropout) if dropout else None

    def finish(self, tokens: Tokens) -> Tokens:
        """The tokens as the backbone takes them."""
        if self.positions is not None:
            added = self.positions(tokens)
            tokens = tokens if added is None else tokens.update(tokens.values + added)
        if self.first is not None:
            tokens = lead(tokens, self.first)
        values = tokens.values if self.norm is None else self.norm(tokens.values)
        return tokens.update(values if self.dropout is None else self.dropout(values))


def lead(tokens: Tokens, first: Float[Tensor, "F D"]) -> Tokens:
    """The tokens with `first` ones, which belong to no place, in front."""
    batch, count = tokens.batch, len(first)
    values = torch.cat((first.to(tokens.values.dtype).expand(batch, -1, -1), tokens.values), 1)
    mask = tokens.mask
    if mask is not None:
        mask = torch.cat((mask.new_ones(batch, count), mask), 1)
    places = tokens.places
    places = torch.cat((places.new_zeros(places.shape[0], count, places.shape[2]), places), 1)
    return tokens.replace(values=values, mask=mask, positions=places, prefix=tokens.prefix + count)
