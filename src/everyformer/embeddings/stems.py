"""Pictures into Tokens through several convolutions with batch norm between them."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.convolution import ConvNorm
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.grids import as_tokens, same
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


@part("embeddings")
class StridedStem(Finish):
    """3x3 convolutions of `strides`, each with batch norm, GELU between, widths in proportion to the stride so far
    (Fan et al., RMT, 2024, official code); a cell stands for a patch of their product.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        strides: tuple[int, ...] = (2, 1, 2, 1),
        bias: bool = True,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.patch, self.channels, self.image = math.prod(strides), channels, image
        if width * strides[0] % self.patch:
            raise ValueError(f"the width is a multiple of {self.patch // strides[0]}; given {width}")
        sizes = [channels, *(width * each // self.patch for each in accumulate(strides, mul))]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, 1, bias=bias) for (a, b), stride in zip(pairwise(sizes), strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[1:])

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        cells = inputs
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            cells = norm(conv(F.gelu(cells) if i else cells))
        return self.finish(as_tokens(cells))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


@part("embeddings")
class HalvingStem(StridedStem):
    """All of stride 2, until a cell stands for a patch (Graham et al., LeViT, 2021, section 4.2; El-Nouby et al., XCiT,
    2021, section 3.4).
    """

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        steps = patch.bit_length() - 1
        if patch != 2**steps or not steps:
            raise ValueError(f"a patch is a power of 2 and at least 2; given {patch}")
        super().__init__(
            width, strides=(2,) * steps, bias=False, channels=channels, image=image, first=first, positions=positions,
            norm=norm, dropout=dropout,
        )  # fmt: skip


@part("embeddings")
class PairStem(Finish):
    """A 3x3 convolution of stride 2, batch norm, an activation and another 3x3 convolution (Tu et al., MaxViT, 2022, 3.3).

    `eps` is that of the batch norm.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        activation: str = "gelu",
        eps: float = 1e-5,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.channels, self.image = channels, image
        self.convs = nn.ModuleList((nn.Conv2d(channels, width, 3, 2), nn.Conv2d(width, width, 3, padding=1)))
        self.between = nn.BatchNorm2d(width, eps)
        self.activation = activation_named(activation)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        check_picture(inputs, self.channels)
        cells = self.activation(self.between(self.convs[0](same(inputs, 3, 2))))
        return self.finish(as_tokens(self.convs[1](cells)))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


@part("embeddings")
class ResidualPatches(Finish):
    """A 3x3 convolution of stride 2, two more around which the first passes, then patches of what they give, all but the
    last with batch norm and ReLU (Liao et al., ViT-ResNAS, 2021, section 3.1).
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        patch: int = 14,
        middle: int = 24,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        if patch % 2:
            raise ValueError(f"the first convolution halves the picture, so that a patch is even; given {patch}")
        self.patch, self.channels, self.image = patch, channels, image
        self.enter = ConvNorm(channels, middle, stride=2)
        self.convs = nn.ModuleList(ConvNorm(middle, middle) for _ in range(2))
        self.project = nn.Conv2d(middle, width, patch // 2, patch // 2)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures; the last patches are filled with zeros."""
        check_picture(inputs, self.channels)
        cells = F.pad(inputs, (0, -inputs.shape[3] % self.patch, 0, -inputs.shape[2] % self.patch))
        cells = entered = self.enter(cells)
        for conv in self.convs:
            cells = conv(cells)
        return self.finish(as_tokens(self.project(cells + entered)))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}
