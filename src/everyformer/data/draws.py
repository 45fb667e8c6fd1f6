"""Random numbers that are a pure function of a seed and of a sample's index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def uniform(seed: int, indices: Sequence[int] | Tensor, count: int) -> Float[Tensor, "B count"]:
    """`count` numbers in [0, 1) for each index, the same whatever else is in the batch (SplitMix64, Steele 2014)."""
    row = np.asarray(indices, dtype=np.uint64)[:, None]
    column = np.arange(count, dtype=np.uint64)[None]
    start = _mix(np.array([[seed % 2**64]], dtype=np.uint64))
    bits = _mix(_mix(start + row) + column)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) / 2.0**53)


def mixed(*numbers: int) -> int:
    """One seed out of several numbers (a seed and an epoch, say)."""
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = _mix(state + np.array([number % 2**64], dtype=np.uint64))
    return int(state[0] >> np.uint64(1))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
