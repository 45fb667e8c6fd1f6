"""Positions that are heard from the neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class ConvPlaces(Position):
    """GELU of a grouped convolution of the values themselves, which tells where they stand (wav2vec 2.0, section 2).

    The kernel is a gain for each of its steps times directions of length one (Salimans and Kingma, 2016, equation 2).
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(f"width {width} is not a multiple of groups {groups}")
        self.groups = groups
        std = math.sqrt(4.0 / (kernel * width))
        self.direction = nn.Parameter(torch.randn(width, width // groups, kernel) * std)
        self.gain = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.shift = nn.Parameter(torch.zeros(width))

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """What the neighbourhood of each token says, padding counted as silence."""
        weight = self.direction * (self.gain / self.direction.norm(dim=(0, 1), keepdim=True))
        found = F.conv1d(tokens.zeroed().mT, weight, self.shift, padding=weight.shape[-1] // 2, groups=self.groups)
        return F.gelu(found[..., : tokens.count]).mT
