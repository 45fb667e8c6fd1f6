"""Pictures into Tokens by the first layer of a residual network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.convolution import StandardConv2d
from everyformer.embeddings.image import check_picture
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("embeddings")
class ResidualStem(Embedding):
    """A 7x7 convolution with stride 2, batch norm, ReLU (He et al., ResNet, 2016, table 1); the pooling belongs to the
    stage after it. Takes pictures of any size.
    """

    gives_grid = True

    def __init__(self, width: int, *, channels: int = 3, image: int = 224) -> None:
        super().__init__()
        self.channels, self.image = channels, image
        self.conv, self.norm = self.layers(width)

    def layers(self, width: int) -> tuple[nn.Module, nn.Module]:
        """The convolution and the norm after it."""
        return nn.Conv2d(self.channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)

    def forward(self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None) -> Tokens:  # type: ignore[override]
        """Tokens of pictures, half as fine."""
        check_picture(inputs, self.channels)
        return as_tokens(F.relu(self.norm(self.conv(inputs))))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


@part("embeddings")
class StandardStem(ResidualStem):
    """The same with standardised kernels and a group norm (Kolesnikov et al., BiT, 2020, section 3)."""

    def __init__(self, width: int, *, channels: int = 3, image: int = 224, groups: int = 32) -> None:
        self._groups = groups
        super().__init__(width, channels=channels, image=image)

    def layers(self, width: int) -> tuple[nn.Module, nn.Module]:
        """The convolution and the norm after it."""
        conv = StandardConv2d(self.channels, width, 7, 2, 3, bias=False)
        return conv, nn.GroupNorm(self._groups, width, eps=1e-6)
