"""The analytic model of layouts (Pope et al., 2022): its tables, its minima, and what pretended chips send."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.evidence.scaling import PALM, TABLE_1, TABLE_2, TPU, longest
from everyformer.generation.layouts import Chips, by_batch, by_heads, stationary, weights_gathered
from everyformer.generation.partition import (
    STATIONARY,
    Shape,
    best_gathered,
    best_stationary,
    gathered_traffic,
    partition,
    stationary_traffic,
    utilisation,
)


@pytest.mark.parametrize(("batch", "kind"), TABLE_1)
def test_the_longest_contexts_of_table_1(batch: int, kind: str) -> None:
    assert longest(batch, kind) == pytest.approx(TABLE_1[batch, kind], rel=0.02)


@pytest.mark.parametrize("name", TABLE_2)
def test_the_settings_of_table_2(name: str) -> None:
    """Utilisation is that of the table, the layout is the one that the paper took, and no step is faster than the model's."""
    batch, length, steps, size, seconds, share, weights = TABLE_2[name]
    tokens = batch * length * steps
    assert utilisation(PALM, TPU, chips=64, tokens=tokens, seconds=seconds) == pytest.approx(share, abs=0.006)
    context = 0 if length > 1 else 2048
    best = partition(PALM, device=TPU, chips=64, batch=batch, length=length, context=context, weight_bytes=size)[0]
    assert best.weights == weights
    assert seconds / 4 < best.seconds * steps < seconds
    assert best.memory < TPU.memory
    if weights == STATIONARY:
        assert best.along == 4, "half of sqrt(64) where F = 4 E (section 3.2.2)"
        assert best.caches == ("batch" if length == 1 else "heads")


@pytest.mark.parametrize("chips", [16, 64, 256, 1024])
def test_closed_forms_are_the_minima(chips: int) -> None:
    width, hidden, rows = 1024, 4096, 2.0**16
    powers = [2**i for i in range(chips.bit_length())]
    assert best_stationary(width, hidden, chips) == math.sqrt(chips) / 2
    # Without the (K - 1)/K of each collective, as in the paper.
    least = min(powers, key=lambda x: width / x + hidden * x / chips)
    assert least == 2 ** round(math.log2(best_stationary(width, hidden, chips)))
    x = best_stationary(width, hidden, chips)
    assert 2 * rows * (width / x + hidden * x / chips) == pytest.approx(8 * rows * width / math.sqrt(chips))
    n = best_gathered(rows, hidden, chips)
    ideal = 4 * width * math.sqrt(rows * hidden) / math.sqrt(chips)
    assert 2 * width * hidden * n / chips + 2 * rows * width / n == pytest.approx(ideal)
    for near in (n / 1.1, n * 1.1):
        assert 2 * width * hidden * near / chips + 2 * rows * width / near > ideal


@pytest.mark.parametrize(("x", "y"), [(1, 4), (2, 4), (4, 2), (4, 1)])
def test_pretended_chips_give_the_whole_and_send_what_the_formulas_say(x: int, y: int) -> None:
    torch.manual_seed(0)
    rows, width, hidden = 8, 16, 64
    values, up, down = torch.randn(rows, width), torch.randn(width, hidden), torch.randn(hidden, width)
    whole = F.gelu(values @ up) @ down
    for layout, formula in ((stationary, stationary_traffic), (weights_gathered, gathered_traffic)):
        chips = Chips(x, y)
        torch.testing.assert_close(layout(chips, values, up, down, F.gelu), whole, atol=1e-4, rtol=1e-5)
        assert chips.taken == formula(rows, width, hidden, x * y, x)


@pytest.mark.parametrize("key_heads", [1, 8])
def test_attention_by_heads_and_by_batch_is_attention(key_heads: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(4, 8, 1, 16)
    key, value = torch.randn(4, key_heads, 9, 16), torch.randn(4, key_heads, 9, 16)
    whole = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    still, sent = Chips(1, 4), Chips(1, 4)
    torch.testing.assert_close(by_heads(still, query, key, value), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(by_batch(sent, query, key, value), whole, atol=1e-6, rtol=1e-5)
    assert still.taken == 0
    assert sent.taken == 2 * query.numel() / 4 * 3 / 4


def test_a_model_gives_its_shape_and_one_that_is_no_such_decoder_is_refused() -> None:
    design = ef.design("llama", "2-70b")
    shape = Shape.of(design.build(device="meta"))
    assert (shape.layers, shape.width, shape.hidden, shape.heads, shape.key_heads) == (80, 8192, 28672, 64, 8)
    assert (shape.head_width, shape.gated, shape.parallel) == (128, True, False)
    assert shape.cache == 2 * 80 * 8 * 128
    with pytest.raises(DoesNotFit, match="blocks are equal, each of one Attention and one MLP or Gated"):
        Shape.of(ef.design("mlp-mixer").build(device="meta"))
    with pytest.raises(BadInput, match="a power of two of chips; given 6"):
        partition(shape, device=TPU, chips=6, batch=1)
