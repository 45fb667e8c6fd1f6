"""The work of mixers against closed formulas."""

from __future__ import annotations

import pytest

import everyformer as ef
from everyformer.interpret import growth
from everyformer.interpret.growth import work


def test_the_work_of_attention_is_the_formula_and_where_another_is_less_is_found() -> None:
    attention, width = ef.spec(ef.mixers.Attention, heads=2), 16
    assert work(attention, width, 32) == 8 * 32 * width**2 + 4 * 32**2 * width
    lengths = (8, 32, 128, 512)
    found = growth(
        {"same": attention, "low": ef.spec(ef.mixers.Linformer, heads=2, length=512)}, width=width, lengths=lengths
    )
    assert found["same"].pays_from is None, "as much work with fewer heads"
    assert 1.9 < growth({"same": attention}, width=width, lengths=(2048, 4096))["same"].exponent < 2
    assert found["low"].exponent == pytest.approx(1, abs=1e-6)
    less = [n for n in lengths if found["low"].flops[n] < work(ef.spec(ef.mixers.Attention, heads=4), width, n)]
    assert found["low"].pays_from == less[0]
    assert less == [n for n in lengths if n >= less[0]]
    for lengths in ((8,), (8, 8), (16, 8)):
        with pytest.raises(ef.BadInput, match="two lengths or more"):
            growth({"same": attention}, lengths=lengths)
