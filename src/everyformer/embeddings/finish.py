"""What every embedding does at its end: leading tokens, positions, norm and dropout."""

from __future__ import annotations

import torch
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
        values = tokens.values
        if self.positions is not None:
            added = self.positions(tokens)
            values = values if added is None else values + added
        if self.first is not None:
            tokens, values = self._lead(tokens, values, self.first)
        if self.norm is not None:
            values = self.norm(values)
        return tokens.update(values if self.dropout is None else self.dropout(values))

    def _lead(self, tokens: Tokens, values: Tensor, first: Tensor) -> tuple[Tokens, Tensor]:
        batch, count = values.shape[0], len(first)
        lead = first.to(values.dtype).expand(batch, -1, -1)
        mask = tokens.mask
        if mask is not None:
            mask = torch.cat((mask.new_ones(batch, count), mask), 1)
        places = tokens.places
        places = torch.cat((places.new_zeros(places.shape[0], count, places.shape[2]), places), 1)
        return tokens.replace(mask=mask, positions=places, prefix=tokens.prefix + count), torch.cat((lead, values), 1)
