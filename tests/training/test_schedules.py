"""Schedules against their formulas."""

from __future__ import annotations

import math

import pytest

from everyformer.errors import UnknownName
from everyformer.recipe import Training
from everyformer.training.schedules import Schedule, find_schedule


def rates(steps: int = 100, **options: object) -> list[float]:
    schedule = Schedule(Training(steps=steps, **options), steps)
    return [schedule(step, step / steps) for step in range(steps)]


def test_cosine_after_a_linear_warmup() -> None:
    expected = [2e-3 * (s + 1) / 10 for s in range(10)]
    expected += [1e-4 + (2e-3 - 1e-4) * (1 + math.cos(math.pi * (s - 10) / 90)) / 2 for s in range(10, 100)]
    assert rates(lr=2e-3, min_lr=1e-4, warmup=10) == pytest.approx(expected)
    assert rates(lr=2e-3, min_lr=1e-4, warmup=0.1) == pytest.approx(expected)


def test_inverse_sqrt_is_that_of_the_transformer() -> None:
    """Vaswani et al., equation 3: min(step^-0.5, step * warmup^-1.5), scaled to lr at the end of the warm-up."""
    factor = [min(s**-0.5, s * 16**-1.5) / 16**-0.5 for s in range(1, 101)]
    got = rates(lr=1.0, schedule="inverse-sqrt", warmup=16)
    assert got[:16] == pytest.approx(factor[:16])
    assert got[17:] == pytest.approx(factor[16:-1])


def test_constant() -> None:
    assert rates(lr=0.5, schedule="constant", warmup=0.0) == [0.5] * 100


def test_a_run_by_the_clock_follows_the_share_that_has_passed() -> None:
    schedule = Schedule(Training(seconds=10, lr=1.0, warmup=0.2), None)
    shares = (0.1, 0.2, 0.6, 1.0)
    assert [schedule(999, share) for share in shares] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_of_steps_and_seconds_the_one_that_ends_the_run_counts() -> None:
    """Of 1,000 steps there is time for 100: a warm-up of a fifth is 20 of them, one of 5 steps is 5."""
    for warmup, steps in ((0.2, 20), (5, 5)):
        schedule = Schedule(Training(steps=1000, seconds=10, lr=1.0, warmup=warmup), 1000)
        got = [schedule(step, step / 100) for step in range(101)]
        assert got.index(max(got)) == pytest.approx(steps, abs=1)
        assert got[-1] == pytest.approx(0.0)


def test_a_misspelt_schedule() -> None:
    with pytest.raises(UnknownName, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        find_schedule("cosin")
