"""Sparse coding of each token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import FeedForward
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("feedforward")
class SparseCoding(FeedForward):
    """relu(x + step D^T (x - D x) - step threshold): a step of ISTA from x towards a sparse code of it, none negative.

    Of Yu et al. (CRATE, 2023, equation 17). It gives the code itself and so stands in `norms.Replacement`.
    """

    def __init__(self, width: int, *, step: float = 0.1, threshold: float = 0.1) -> None:
        super().__init__()
        self.step, self.threshold = step, threshold
        self.dictionary = nn.Parameter(torch.empty(width, width))
        nn.init.kaiming_uniform_(self.dictionary)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The code of each token."""
        values = tokens.values
        left = values - F.linear(values, self.dictionary)
        return F.relu(values + self.step * (left @ self.dictionary - self.threshold))
