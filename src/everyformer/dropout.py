"""Dropout of single values, with fewer random numbers than PyTorch draws on a CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


class Dropout(nn.Module):
    """In training each value is zero with probability `rate`, the others scaled up (Srivastava et al., 2014)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate is at least 0 and below 1; given {rate}")
        self.rate = rate

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The values, some of them zero."""
        return dropout(values, self.rate) if self.training else values

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def dropout(values: Float[Tensor, "..."], rate: float) -> Float[Tensor, "..."]:
    """Each value zero with probability `rate` (kept to 1/65536 on a CPU), the others scaled up."""
    if rate == 0 or values.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(values, rate)
    return values * scaled_mask(values, rate)


def scaled_mask(values: Float[Tensor, "..."], rate: float) -> Float[Tensor, "..."]:
    """0 with probability `rate`, else 1 / (1 - rate), for each value: four values share 64 random bits."""
    cut = round(rate * _LEVELS)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: values.numel()].view(values.shape)
    return (draws >= cut - _LEVELS // 2).to(values.dtype).mul_(_LEVELS / (_LEVELS - cut))
