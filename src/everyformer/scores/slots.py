"""Keys and values beside those of the tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Slots
from everyformer.registry import part


@part("scores")
class Persistent(Slots):
    """`count` learned keys and values in each head (Sukhbaatar et al., 2019, section 3.1; prefix tuning, Li and Liang, 2021)."""

    def __init__(self, heads: int, width: int, *, count: int = 16) -> None:
        super().__init__(heads, width)
        if count < 1:
            raise ValueError(f"count is at least 1; given {count}")
        self.count = count
        self.key = nn.Parameter(torch.randn(heads, count, width) * width**-0.5)
        self.value = nn.Parameter(torch.randn(heads, count, width) * count**-0.5)

    def forward(
        self, key: Float[Tensor, "B G M K"], value: Float[Tensor, "B G M K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """The learned keys and values, for every sequence the same."""
        batch = key.shape[0]
        return (
            self.key.to(key.dtype).expand(batch, -1, -1, -1),
            self.value.to(value.dtype).expand(batch, -1, -1, -1),
        )
