"""Pixels as they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.embeddings.image import check_picture
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("embeddings")
class RawPixels(Embedding):
    """Each pixel a token as wide as it has channels, for bodies that begin with convolutions of their own."""

    gives_grid = True
    like: Tensor

    def __init__(self, width: int, *, image: int = 224) -> None:
        super().__init__()
        self.channels, self.image = width, image
        self.register_buffer("like", torch.zeros(()), persistent=False)  # of the type of the weights that come after

    def forward(self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None) -> Tokens:  # type: ignore[override]
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        return as_tokens(inputs.to(self.like.dtype))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
