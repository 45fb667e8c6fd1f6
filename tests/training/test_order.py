"""The order of samples: pure, complete, within budget."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from everyformer.errors import EveryformerError
from everyformer.recipe import Training
from everyformer.training.order import BySamples, ByTokens, order_of, steps_of


@pytest.mark.parametrize("batch", [4, 7, 31])
def test_by_samples_every_epoch_has_every_sample_once(batch: int) -> None:
    order = BySamples(13, batch, seed=3)
    stream = [sample for step in range(26) for sample in order(step)]
    epochs = [stream[i : i + 13] for i in range(0, len(stream) - 12, 13)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [len(order(step)) for step in range(5)] == [batch] * 5


def test_by_tokens_every_epoch_has_every_sample_once_and_no_step_is_over_budget() -> None:
    costs = np.random.default_rng(0).integers(1, 40, 500).tolist()
    order = ByTokens(costs, 200, seed=3)
    per_epoch = int(order.steps_per_epoch)
    epochs = [[order(epoch * per_epoch + i) for i in range(per_epoch)] for epoch in range(2)]
    for epoch in epochs:
        assert Counter(sample for step in epoch for sample in step) == Counter(range(500))
        assert all(len(step) * max(costs[i] for i in step) <= 200 for step in epoch)
    padded = sum(len(step) * max(costs[i] for i in step) for step in epochs[0])
    assert padded < 1.05 * sum(costs)
    assert {frozenset(step) for step in epochs[0]} != {frozenset(step) for step in epochs[1]}


@pytest.mark.parametrize("make", [lambda seed: BySamples(29, 4, seed), lambda seed: ByTokens([3, 5, 2] * 9, 12, seed)])
def test_a_step_is_a_function_of_seed_and_step(make: object) -> None:
    forwards = [make(1)(step) for step in range(40)]
    backwards = [make(1)(step) for step in reversed(range(40))][::-1]
    assert forwards == backwards
    assert forwards != [make(2)(step) for step in range(40)]


def test_a_sample_over_the_budget_is_refused() -> None:
    with pytest.raises(EveryformerError, match=r"training\.tokens=10 .* longest sample, of 11 tokens"):
        ByTokens([3, 11], 10, 0)


def test_a_token_budget_needs_lengths() -> None:
    with pytest.raises(EveryformerError, match=r"give training\.batch"):
        order_of(10, None, Training(steps=1, tokens=8))


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"steps": 7}, 7),
        ({"epochs": 2}, 5),
        ({"epochs": 0.1}, 1),
        ({"steps": 7, "epochs": 2}, 5),
        ({"seconds": 1}, None),
    ],
)
def test_length(given: dict[str, float], steps: int | None) -> None:
    training = Training(batch=4, **given)
    assert steps_of(training, order_of(10, None, training)) == steps
