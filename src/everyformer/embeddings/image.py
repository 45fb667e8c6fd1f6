"""Pictures into Tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.errors import BadInput
from everyformer.grids import as_tokens
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
        self.project = nn.Conv2d(channels, width, patch, patch, bias=bias)

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
        return as_tokens(self.project(inputs))

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


def check_picture(inputs: Tensor, channels: int) -> None:
    """Refuse what is not a batch of pictures with the channels that were built for."""
    if inputs.dim() != 4 or inputs.shape[1] != channels:
        raise BadInput(
            f"expected pictures (B, {channels}, height, width); given a tensor of shape {tuple(inputs.shape)}; "
            f"build with channels={inputs.shape[1] if inputs.dim() == 4 else '...'} or convert the pictures"
        )
    if not inputs.is_floating_point():
        raise BadInput(f"expected pictures as float; given {inputs.dtype}; convert bytes with pictures.float() / 255")
