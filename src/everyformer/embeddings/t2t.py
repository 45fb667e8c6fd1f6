"""Pictures into Tokens by splits that overlap, with attention between them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.grids import places_of
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


class TokenTransformer(nn.Module):
    """One head of attention from one width to another, a feedforward after it (Yuan et al., 2021, equation 1).

    The values stand in for the way around the attention, whose width is another; its scale is that of the width that
    comes in, as in the official code.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.scale = inputs**-0.5
        self.norms = nn.ModuleList((nn.LayerNorm(inputs), nn.LayerNorm(outputs)))
        self.qkv = nn.Linear(inputs, 3 * outputs, bias=False)
        self.output = nn.Linear(outputs, outputs)
        self.up = nn.Linear(outputs, outputs)
        self.down = nn.Linear(outputs, outputs)

    def forward(self, values: Float[Tensor, "B N I"]) -> Float[Tensor, "B N O"]:
        """The tokens in their new width."""
        query, key, value = (each[:, None] for each in self.qkv(self.norms[0](values)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        values = (value + self.output(mixed))[:, 0]
        return values + self.down(F.gelu(self.up(self.norms[1](values))))


@part("embeddings")
class TokensToToken(Finish):
    """Soft splits, each (kernel, stride, padding), with a token transformer to `narrow` between them (Yuan et al., 3.1).

    A split puts the cells of every window, which overlap, beside each other in one token; the last is followed by a map.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        splits: tuple[tuple[int, int, int], ...] = ((7, 4, 2), (3, 2, 1), (3, 2, 1)),
        narrow: int = 64,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.splits, self.channels, self.image = splits, channels, image
        sizes = [kernel * kernel * (narrow if i else channels) for i, (kernel, _, _) in enumerate(splits)]
        self.steps = nn.ModuleList(TokenTransformer(size, narrow) for size in sizes[:-1])
        self.project = nn.Linear(sizes[-1], width)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        cells = inputs
        for i, (kernel, stride, padding) in enumerate(self.splits):
            grid = tuple((side + 2 * padding - kernel) // stride + 1 for side in cells.shape[-2:])
            values = F.unfold(cells, kernel, stride=stride, padding=padding).mT
            if i < len(self.steps):
                cells = self.steps[i](values).mT.unflatten(-1, grid)
        return self.finish(Tokens(self.project(values), positions=places_of(grid, values.device), grid=grid))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
