"""Which samples make the batches of an epoch: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from everyformer.data.draws import mixed
from everyformer.errors import EveryformerError


def batches(size: int, batch: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    """All of `size` samples in random order, `batch` at a time; the last may be smaller."""
    order = np.random.default_rng(mixed(seed, epoch)).permutation(size)
    return [order[start : start + batch].tolist() for start in range(0, size, batch)]


def token_batches(costs: Sequence[int], tokens: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    """All samples in batches of like length, in random order; the longest times their number is at most `tokens`.

    Samples of equal length are shuffled, so that batches differ from epoch to epoch.
    """
    cost = np.asarray(costs)
    if len(cost) and cost.max() > tokens:
        worst = int(cost.argmax())
        raise EveryformerError(
            f"sample {worst} has {int(cost[worst])} tokens and a step has {tokens}; "
            "raise training.tokens or lower data.length"
        )
    random = np.random.default_rng(mixed(seed, epoch))
    made: list[list[int]] = [[]]
    longest = 0
    for index in np.argsort(cost + random.random(len(cost)), kind="stable").tolist():
        longest = max(longest, int(cost[index]))
        if longest * (len(made[-1]) + 1) > tokens:
            made.append([])
            longest = int(cost[index])
        made[-1].append(index)
    made = [each for each in made if each]
    return [made[i] for i in random.permutation(len(made))]
