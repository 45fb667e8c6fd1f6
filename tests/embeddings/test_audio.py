"""Spectrograms as frames and as patches."""

import pytest
import torch

import everyformer as ef
from everyformer.embeddings import SpectrogramFrames, SpectrogramPatches
from everyformer.positions import LearnedGrid, Sinusoidal


def test_patches_equal_a_loop_over_windows():
    """Row by row of frequency, in each row along time; every patch one linear map of its cells."""
    module = ef.spec(SpectrogramPatches, mels=11, frames=17, patch=4, stride=3).build(8)
    sound = torch.randn(2, 17, 11)
    tokens = module(sound)
    assert tokens.grid == SpectrogramPatches.grid(11, 17, 4, 3) == (3, 5)
    weight, bias = module.project.weight[:, 0], module.project.bias
    for row in range(3):
        for column in range(5):
            window = sound[:, column * 3 : column * 3 + 4, row * 3 : row * 3 + 4]
            expected = torch.einsum("btf,dft->bd", window, weight) + bias
            torch.testing.assert_close(tokens.values[:, row * 5 + column], expected, rtol=0, atol=1e-5)
            assert tokens.positions[0, row * 5 + column].tolist() == [row, column]


def test_patches_take_shorter_and_longer_sounds():
    grid = SpectrogramPatches.grid(12, 20, 4, 2)
    module = ef.spec(
        SpectrogramPatches, mels=12, frames=20, patch=4, stride=2, first=2, positions=ef.spec(LearnedGrid, grid=grid)
    ).build(8)
    for frames, columns in ((20, 9), (4, 1), (21, 9), (50, 24)):
        tokens = module(torch.randn(1, frames, 12))
        assert tokens.grid == (5, columns)
        assert tokens.count == 5 * columns + 2
        assert tokens.prefix == 2


def test_frames_are_one_map_each():
    module = ef.spec(SpectrogramFrames, mels=6).build(8)
    sound = torch.randn(2, 9, 6)
    expected = sound @ module.project.weight.T + module.project.bias
    torch.testing.assert_close(module(sound).values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
def test_frames_after_the_end_change_nothing(first):
    module = ef.spec(SpectrogramFrames, mels=6, first=first, positions=ef.spec(Sinusoidal)).build(8)
    sound, mask = torch.randn(2, 9, 6), torch.arange(9) < torch.tensor([[9], [4]])
    padded, alone = module(sound, mask=mask), module(sound[1:, :4])
    assert padded.mask.sum(1).tolist() == [9 + first, 4 + first]
    torch.testing.assert_close(padded.values[1, : 4 + first], alone.values[0])


@pytest.mark.parametrize("part", [SpectrogramFrames, SpectrogramPatches], ids=lambda p: p.__name__)
def test_examples_and_refusals(part):
    module = ef.spec(part, mels=32, frames=40).build(8)
    assert module(**module.example(2)).batch == 2
    with pytest.raises(
        ef.BadInput, match=r"expected spectrograms \(B, frames, 32\); given a tensor of shape \(2, 32, 40\)"
    ):
        module(torch.zeros(2, 32, 40))
    with pytest.raises(ef.BadInput, match=r"given a tensor of shape \(40, 32\)"):
        module(torch.zeros(40, 32))
