"""Pictures into Tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.errors import BadInput
from everyformer.grids import anchor, as_tokens, rolled
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class Patches(Finish):
    """Square patches, each through one linear map (Dosovitskiy et al., ViT, 2021, equation 1).

    `first` learned tokens (class, registers) stand in front. `image` is the size that an example has; any other is taken
    where the positions are. The last patches of a picture whose sides are no multiples of `patch` are filled with zeros,
    at the right and at the bottom.
    """

    gives_grid = True

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
        bias: bool = True,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.patch, self.channels, self.image = patch, channels, image
        self.project: nn.Module = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Tokens of pictures."""
        return self.finish(self.cut(inputs))

    def cut(self, inputs: Float[Tensor, "B C Y X"]) -> Tokens:
        """The patches alone, without positions or leading tokens."""
        check_picture(inputs, self.channels)
        height, width = inputs.shape[-2:]
        if height % self.patch or width % self.patch:
            inputs = F.pad(inputs, (0, -width % self.patch, 0, -height % self.patch))
        return as_tokens(self.cells(inputs))

    def cells(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D h w"]:
        """A vector for each patch."""
        return self.project(inputs)

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


@part("embeddings")
class ActivatedPatches(Patches):
    """Patches through a linear map and an activation, before any norm (Trockman and Kolter, ConvMixer, 2023, equation 1)."""

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        activation: str = "gelu",
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, patch=patch, channels=channels, image=image, first=first, positions=positions, norm=norm,
            dropout=dropout,
        )  # fmt: skip
        self.activation = activation_named(activation)

    def cells(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D h w"]:
        """A vector for each patch."""
        return self.activation(self.project(inputs))


@part("embeddings")
class NormedPatches(Patches):
    """Patches normalised before their linear map and after it (Yu et al., CRATE, 2023, their code; vit-pytorch)."""

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        patch_norm: Spec[Norm],
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, patch=patch, channels=channels, image=image, first=first, positions=positions, norm=norm,
            dropout=dropout,
        )  # fmt: skip
        size = channels * patch**2
        self.project = nn.Linear(size, width)
        self.patch_norm = nn.ModuleList(self.make("patch_norm", patch_norm, each) for each in (size, width))

    def cells(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D h w"]:
        """A vector for each patch."""
        pieces = inputs.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
        flat = pieces.permute(0, 2, 3, 1, 4, 5).flatten(3)
        return self.patch_norm[1](self.project(self.patch_norm[0](flat))).permute(0, 3, 1, 2)


@part("embeddings")
class FinePatches(Patches):
    """Patches that begin every `stride` pixels, through the one linear map: those of a plain ViT, and as many between them
    (Tang et al., VPNeXt, 2025). Beyond the picture they are filled with zeros.
    """

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        stride: int = 4,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            width, patch=patch, channels=channels, image=image, first=first, positions=positions, norm=norm,
            dropout=dropout, bias=bias,
        )  # fmt: skip
        if not 0 < stride <= patch or patch % stride:
            raise ValueError(f"a patch is a multiple of the stride; given patch={patch}, stride={stride}")
        self.beyond = patch - stride
        self.project = nn.Conv2d(channels, width, patch, stride, bias=bias)

    def cells(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D h w"]:
        """A vector for each patch."""
        return self.project(F.pad(inputs, (0, self.beyond, 0, self.beyond)))


@part("embeddings")
class AnchoredPatches(Patches):
    """Patches that move along with the picture: cut where its strongest part begins (Ding et al., 2023, section 3.1).

    A picture that is rolled gives the same tokens, rolled. Positions that belong to places would undo that.
    """

    def cells(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D h w"]:
        """A vector for each patch."""
        return super().cells(rolled(inputs, -anchor(inputs, self.patch)))


def check_picture(inputs: Tensor, channels: int) -> None:
    """Refuse what is not a batch of pictures with the channels that were built for."""
    if inputs.dim() != 4 or inputs.shape[1] != channels:
        raise BadInput(
            f"expected pictures (B, {channels}, height, width); given a tensor of shape {tuple(inputs.shape)}; "
            f"build with channels={inputs.shape[1] if inputs.dim() == 4 else '...'} or convert the pictures"
        )
    if not inputs.is_floating_point():
        raise BadInput(f"expected pictures as float; given {inputs.dtype}; convert bytes with pictures.float() / 255")
