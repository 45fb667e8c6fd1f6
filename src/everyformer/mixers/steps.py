"""How the step sizes of state spaces start."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def step_bias(heads: int, least: float = 0.001, most: float = 0.1, floor: float = 1e-4) -> Float[Tensor, " H"]:
    """c with softplus(c) drawn log-uniformly between two step sizes (Gu and Dao, Mamba, 2023, section 3.6)."""
    step = (torch.rand(heads) * math.log(most / least) + math.log(least)).exp().clamp(min=floor)
    return step + torch.log(-torch.expm1(-step))
