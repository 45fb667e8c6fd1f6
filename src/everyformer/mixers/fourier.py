"""Mixing by Fourier transforms, which has no parameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class FourierMixer(Mixer):
    """The real part of the Fourier transform along the tokens and along the width (Lee-Thorp et al., FNet, 2022, eq. 3)."""

    capabilities = frozenset({"ordered"})

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The transform, in float32 where the values have fewer bits."""
        values = tokens.values.to(torch.promote_types(tokens.values.dtype, torch.float32))
        return torch.fft.fft2(values).real.to(tokens.values.dtype)
