"""Positions that are added to the values."""

import math

import pytest
import torch
from timm.layers import resample_abs_pos_embed

import everyformer as ef
from everyformer.positions import Learned, LearnedGrid, Sinusoidal


def on_grid(rows, columns, width, first=0):
    places = torch.tensor([[r, c] for r in range(rows) for c in range(columns)])
    lead = torch.zeros(first, 2, dtype=torch.long)
    values = torch.zeros(2, first + rows * columns, width)
    return ef.Tokens(values, positions=torch.cat((lead, places))[None], grid=(rows, columns), prefix=first)


@pytest.mark.parametrize(("width", "base"), [(16, 10000.0), (6, 50.0), (7, 10000.0)])
def test_sinusoidal_is_the_equation(width, base):
    added = Sinusoidal(width, base=base).add(ef.Tokens(torch.zeros(1, 40, width)))
    for place in (0, 1, 7, 39):
        for channel in range(width // 2 * 2):
            wave = math.sin if channel % 2 == 0 else math.cos
            share = width // 2 * 2
            expected = wave(place / base ** (channel // 2 * 2 / share))
            assert added[0, place, channel].item() == pytest.approx(expected, abs=1e-5)


def test_sinusoidal_shares_the_width_among_the_axes_of_a_grid():
    added = Sinusoidal(8).add(on_grid(3, 5, 8))
    for row in range(3):
        for column in range(5):
            expected = [
                wave(place / 10000 ** (i / 4))
                for place in (row, column)
                for i in (0, 2)
                for wave in (math.sin, math.cos)
            ]
            torch.testing.assert_close(added[0, row * 5 + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_learned_gives_each_place_its_row():
    part = Learned(4, length=6)
    tokens = ef.Tokens(torch.zeros(2, 3, 4), positions=torch.tensor([[[5], [0], [2]], [[1], [1], [4]]]))
    assert torch.equal(part.add(tokens), part.table.weight[torch.tensor([[5, 0, 2], [1, 1, 4]])])


def test_a_place_beyond_the_learned_ones_is_refused():
    part = Learned(4, length=6)
    with pytest.raises(ef.BadInput, match=r"a sequence of 7 tokens, and learned positions for 6.*length=7"):
        part.add(ef.Tokens(torch.zeros(1, 7, 4)))
    with pytest.raises(ef.BadInput, match="a sequence of 9 tokens"):
        part.add(ef.Tokens(torch.zeros(1, 1, 4), positions=torch.tensor([[[8]]])))


def test_packed_sequences_may_be_longer_together_than_the_learned_places():
    part = Learned(4, length=6)
    added = part.add(ef.Tokens(torch.zeros(1, 11, 4), lengths=torch.tensor([6, 5])))
    assert torch.equal(added[0], part.table.weight[[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]])


def test_a_learned_grid_at_its_own_size_is_its_table():
    part = LearnedGrid(8, grid=(3, 5))
    assert torch.equal(part.add(on_grid(3, 5, 8, first=2)), part.table[None])


@pytest.mark.parametrize("size", [(6, 5), (9, 11), (2, 3)])
def test_a_learned_grid_is_resampled_as_timm_does(size):
    part = LearnedGrid(8, grid=(4, 6), std=1.0)
    expected = resample_abs_pos_embed(part.table[None], size, (4, 6), num_prefix_tokens=0)
    assert expected.std() > 0.1
    torch.testing.assert_close(part.add(on_grid(*size, 8)), expected, atol=1e-5, rtol=0)


def test_a_learned_grid_refuses_what_is_no_grid():
    with pytest.raises(ef.BadInput, match="needs tokens on a grid"):
        LearnedGrid(8, grid=(2, 2)).add(ef.Tokens(torch.zeros(1, 4, 8)))
    with pytest.raises(ef.DoesNotFit, match=r"grid is \(height, width\)"):
        ef.spec(LearnedGrid, grid=(2, 2, 2)).build(8)
    with pytest.raises(ef.DoesNotFit, match=r"a row and a column at least; given \(0, 0\): is the patch larger"):
        ef.create("vit", image=8)
