"""Mixing by a learned matrix over the places of a sequence."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.masks import Full
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class TokenMatrix(Mixer):
    """y_t = sum_s W_ts x_s + b_t over the places of one sequence, those after t left out where the place is causal.

    The masked mixer's layer (Badger, Masked Mixers, 2024, section 2) and, where all is seen, a linear MLP-Mixer's. A
    sequence shorter than `length` has the first rows and columns.
    """

    capabilities = frozenset({"causal", "masked", "ordered"})

    def __init__(self, width: int, *, length: int = 4096, bias: bool = True) -> None:
        super().__init__()
        self.length = length
        bound = length**-0.5
        self.weight = nn.Parameter(torch.empty(length, length).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(length)) if bias else None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """Sums of the tokens that each place may see."""
        mask, count = (context or Context()).mask, tokens.count
        if count > self.length:
            raise BadInput(f"{count} tokens, and TokenMatrix was built for {self.length}; build with a larger length")
        weight = self.weight[:count, :count]
        if not isinstance(mask, Full):
            place = torch.arange(count, device=weight.device)
            weight = weight * mask.allows(place[:, None], place)
        mixed = weight @ tokens.values
        return mixed if self.bias is None else mixed + self.bias[:count, None]
