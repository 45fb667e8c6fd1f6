"""Pictures into Tokens through several convolutions that never look beyond a patch."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class PatchwiseStem(Finish):
    """Convolutions whose strides are their kernels, each with batch norm, GELU between: hMLP (Touvron et al., 2022b, 5).

    The product of `strides` is the patch. All convolutions but the last have a quarter of the width.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        strides: tuple[int, ...] = (4, 2, 2),
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.patch, self.channels, self.image = math.prod(strides), channels, image
        sizes = [channels, *[width // 4] * (len(strides) - 1), width]
        self.convs = nn.ModuleList(nn.Conv2d(sizes[i], sizes[i + 1], s, s) for i, s in enumerate(strides))
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[1:])

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures; the last patches are filled with zeros."""
        check_picture(inputs, self.channels)
        cells = F.pad(inputs, (0, -inputs.shape[3] % self.patch, 0, -inputs.shape[2] % self.patch))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            cells = norm(conv(F.gelu(cells) if i else cells))
        return self.finish(as_tokens(cells))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
