"""Lean attention: its schedule, and that shares joined are attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import everyformer as ef
from everyformer.mixers.lean import shares


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tiles=st.lists(st.integers(0, 9), max_size=8), workers=st.integers(1, 9))
def test_every_tile_is_done_once_and_the_loads_are_even(tiles, workers):
    found = shares(tiles, workers)
    done = [(row, tile) for share in found for row, first, last in share for tile in range(first, last)]
    assert done == [(row, tile) for row, count in enumerate(tiles) for tile in range(count)]
    loads = [sum(last - first for _, first, last in share) for share in found]
    assert len(loads) == workers
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize("size", [1.0, 80.0], ids=["usual", "scores of +-80"])
@pytest.mark.parametrize(("tile", "workers"), [(4, 5), (1, 3), (64, 2), (7, 40)])
def test_shares_joined_are_attention(tile, workers, size):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(3, heads, count, 8, generator=generator) for heads, count in ((4, 1), (2, 33), (2, 33))
    )
    query, lengths = query * size, [33, 1, 20]
    found = ef.mixers.lean_attention(query, key, value, lengths=lengths, tile=tile, workers=workers)
    seen = (torch.arange(33) < torch.tensor(lengths)[:, None])[:, None, None]
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_what_does_not_belong_is_refused():
    query, key = torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 5, 4)
    with pytest.raises(ef.BadInput, match="at most 5 keys"):
        ef.mixers.lean_attention(query, key, key, lengths=[5, 6])
    with pytest.raises(ef.BadInput, match="given 0 and 8"):
        ef.mixers.lean_attention(query, key, key, tile=0)
