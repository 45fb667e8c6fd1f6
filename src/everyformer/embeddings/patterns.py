"""Pictures into Tokens that are the channels of a convolutional network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


class ResidualPair(nn.Module):
    """Two 3x3 convolutions with batch norm and a way around them (He et al., ResNet, 2016, figure 2, left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))

    def forward(self, cells: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D V U"]:
        """The map after both ways."""
        made = self.norms[1](self.second(F.relu(self.norms[0](self.first(cells)))))
        return F.relu(made + self.norms[2](self.around(cells)))


@part("embeddings")
class Patterns(Finish):
    """Every channel of a residual network's map is a token: its cells in a row, through one linear map (Li et al., 2023, 3.1).

    `stages` are the widths of the network; each stage but the first halves the picture. `patterns` is the number of
    channels of the last map, and so of tokens; the map is pooled to `side` x `side` where the picture gives another one.
    """

    def __init__(
        self,
        width: int,
        *,
        channels: int = 3,
        image: int = 32,
        stages: tuple[int, ...] = (64, 128),
        patterns: int = 128,
        side: int = 16,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.channels, self.image, self.side = channels, image, side
        sizes = [channels, *stages]
        self.stages = nn.ModuleList(
            ResidualPair(before, after, 2 if i else 1) for i, (before, after) in enumerate(zip(sizes, stages))
        )
        self.patterns = nn.Conv2d(stages[-1], patterns, 1)
        self.project = nn.Linear(side * side, width)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures, which stand in no place."""
        check_picture(inputs, self.channels)
        cells = inputs
        for stage in self.stages:
            cells = stage(cells)
        cells = F.adaptive_avg_pool2d(self.patterns(cells), self.side)
        return self.finish(Tokens(self.project(cells.flatten(2))))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
