"""Pictures into Tokens through convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class ConvStem(Finish):
    """`convs` times convolution, ReLU, 3x3 max pooling with stride 2 (Hassani et al., CCT, 2021, equation 8).

    Takes pictures of any size. A kernel of 3 has stride 1, one of 7 stride 2, as in the official code, unless `stride`
    is given. All convolutions but the last have `hidden` channels.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        convs: int = 1,
        kernel: int = 3,
        stride: int | None = None,
        hidden: int = 64,
        channels: int = 3,
        image: int = 32,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, norm=norm, dropout=dropout)
        if convs < 1 or kernel < 2:
            raise ValueError(f"convs is at least 1 and kernel at least 2; given convs={convs}, kernel={kernel}")
        self.channels, self.image = channels, image
        stride = stride or max(1, kernel // 2 - 1)
        sizes = [channels, *[hidden] * (convs - 1), width]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False) for before, after in pairwise(sizes)
        )

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        cells = inputs
        for conv in self.convs:
            # ReLU keeps order, so it gives the same after the pooling, on a quarter of the cells.
            cells = F.relu(F.max_pool2d(conv(cells), 3, 2, 1))
        return self.finish(as_tokens(cells))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}

    @staticmethod
    def grid(image: int, convs: int, kernel: int, stride: int | None = None) -> tuple[int, int]:
        """The rows and columns of tokens that a square picture becomes."""
        stride = stride or max(1, kernel // 2 - 1)
        for _ in range(convs):
            image = (image + 2 * (kernel // 2) - kernel) // stride + 1
            image = (image - 1) // 2 + 1
        return image, image


@part("embeddings")
class OverlapPatches(Finish):
    """Patches that overlap: one strided convolution, as wide as `kernel` (Wang et al., PVT v2, 2022, section 3.2).

    Takes pictures of any size.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        kernel: int = 7,
        stride: int = 4,
        padding: int = 3,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.channels, self.image = channels, image
        self.project = nn.Conv2d(channels, width, kernel, stride, padding)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        return self.finish(as_tokens(self.project(inputs)))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
