"""Sequences of several lengths into one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


def pad_right(sequences: Sequence[np.ndarray], pad: int) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """The sequences with `pad` after their end, and a mask that is true where a token is real."""
    longest = max(len(each) for each in sequences)
    padded = np.full((len(sequences), longest), pad, dtype=np.int64)
    real = np.zeros(padded.shape, dtype=bool)
    for row, each in enumerate(sequences):
        padded[row, : len(each)] = each
        real[row, : len(each)] = True
    return torch.from_numpy(padded), torch.from_numpy(real)
