"""Several passages of text beside each other, with shared tokens in front of each."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.text import Text
from everyformer.errors import BadInput
from everyformer.grids import places_of
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class Passages(Text):
    """Text of passages, the rows of a grid; `shared` learned tokens stand in front of each, to which the vector of the passage's
    rank is added (Kedia et al., FiE, 2022).

    Places count within a passage. Ids of `pad` are padding: passages of fewer tokens, and fewer passages, than others have.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        vocabulary: int,
        shared: int = 10,
        passages: int = 100,
        pad: int = 0,
        positions: Spec[Position] | None = None,
        segments: int = 0,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, vocabulary=vocabulary, positions=positions, segments=segments, norm=norm, dropout=dropout
        )  # fmt: skip
        self.pad = pad
        self.shared, self.ranks = nn.Embedding(shared, width), nn.Embedding(passages, width)

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B P L"],
        context: Context | None = None,
        *,
        segments: Int[Tensor, "B P L"] | None = None,
    ) -> Tokens:
        """Tokens of ids, the passages one after the other, each behind its shared tokens."""
        if inputs.dim() != 3:
            raise BadInput(f"expected the ids of passages (B, P, L); given a tensor of {inputs.dim()} dimensions")
        passages, limit = inputs.shape[1], self.ranks.num_embeddings
        if passages > limit:
            raise BadInput(f"{passages} passages and ranks for {limit}; give fewer, or build with passages={passages}")
        real = (inputs != self.pad).flatten(0, 1)
        own = super().forward(
            inputs.flatten(0, 1), context, mask=real, segments=None if segments is None else segments.flatten(0, 1)
        )
        shared, ranks = (
            table(torch.arange(count, device=inputs.device))
            for table, count in ((self.shared, self.shared.num_embeddings), (self.ranks, passages))
        )
        every = shared + ranks[:, None]
        every = every if self.norm is None else self.norm(every)
        every = every if self.dropout is None else self.dropout(every)
        values = own.values.unflatten(0, inputs.shape[:2])
        every = every.to(values.dtype).expand(values.shape[0], -1, -1, -1)
        values, grid = torch.cat((every, values), 2), (passages, every.shape[2] + inputs.shape[2])
        mask = torch.cat((real.new_ones(every.shape[:3]), real.unflatten(0, inputs.shape[:2])), 2)
        places = places_of(grid, inputs.device)
        return Tokens(values.flatten(1, 2), mask=mask.flatten(1), positions=places, grid=grid)

    def example(self, batch: int = 1, passages: int = 2, length: int = 8) -> dict[str, Tensor]:
        """Ids of the one after padding's."""
        return {"inputs": torch.full((batch, passages, length), self.pad + 1)}
