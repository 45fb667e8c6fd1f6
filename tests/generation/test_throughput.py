"""Tokens a second, with the clock in hand."""

from __future__ import annotations

import pytest

import everyformer as ef
from everyformer.generation import paces
from support.parity import ids
from support.systems import tiny


def test_tokens_are_counted_over_the_seconds_of_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model, said = tiny("llama").build(seed=0), []

    def clock(*calls, repeats):
        said.append([call() for call in calls])
        return [0.5, 2.0]

    monkeypatch.setattr("everyformer.generation.throughput.processor_seconds", clock)
    found = paces({"cache": (model, {}), "none": (model, {"cache": False})}, ids(20, 3, 5), batches=(1, 3), tokens=4)
    assert found == {"cache": {1: 8.0, 3: 24.0}, "none": {1: 2.0, 3: 6.0}}
    assert [[len(each) for each in way] for way in said] == [[1, 1], [3, 3]]
    assert all(one == other and len(one[0]) == 4 for one, other in said)
    with pytest.raises(ef.BadInput, match="1 to 3 prompts"):
        paces({"cache": (model, {})}, ids(20, 3, 5), batches=(4,))
