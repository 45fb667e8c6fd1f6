"""Series as time tokens and as variate tokens."""

import pytest
import torch

import everyformer as ef
from everyformer.embeddings import TimeSteps, Variates
from everyformer.positions import Sinusoidal


def test_time_steps_are_one_map_of_all_variates_and_stamps():
    module = ef.spec(TimeSteps, variates=3, marks=2).build(8)
    series, marks = torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    for t in range(5):
        value = series[:, t] @ module.project.weight.T + module.project.bias
        stamp = marks[:, t] @ module.stamp.weight.T
        torch.testing.assert_close(module(series).values[:, t], value, rtol=0, atol=1e-6)
        torch.testing.assert_close(module(series, marks=marks).values[:, t], value + stamp, rtol=0, atol=1e-6)


def test_steps_that_are_padding_change_nothing():
    module = ef.spec(TimeSteps, variates=3, positions=ef.spec(Sinusoidal)).build(8)
    series, mask = torch.randn(2, 5, 3), torch.tensor([[True] * 5, [False] * 2 + [True] * 3])
    padded = module(series, mask=mask)
    torch.testing.assert_close(padded.values[1, 2:], module(series[1:, 2:]).values[0])


def test_variates_are_one_map_of_their_look_back():
    module = ef.spec(Variates, lookback=6).build(8)
    series, marks = torch.randn(2, 6, 4), torch.randn(2, 6, 3)
    alone, both = module(series), module(series, marks=marks)
    assert (alone.prefix, both.prefix, both.count) == (0, 3, 7)
    for c in range(4):
        expected = series[:, :, c] @ module.project.weight.T + module.project.bias
        torch.testing.assert_close(alone.values[:, c], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(both.values[:, 3 + c], expected, rtol=0, atol=1e-6)
    for k in range(3):
        expected = marks[:, :, k] @ module.project.weight.T + module.project.bias
        torch.testing.assert_close(both.values[:, k], expected, rtol=0, atol=1e-6)


def test_examples_and_refusals():
    steps, variates = ef.spec(TimeSteps, variates=3).build(8), ef.spec(Variates, lookback=6).build(8)
    for module in (steps, variates):
        assert module(**module.example(2)).batch == 2
    with pytest.raises(ef.BadInput, match=r"expected series \(B, time, 3\); given a tensor of shape \(2, 5, 4\)"):
        steps(torch.zeros(2, 5, 4))
    with pytest.raises(ef.BadInput, match=r"expected series \(B, 6, variates\); given a tensor of shape \(2, 5, 4\)"):
        variates(torch.zeros(2, 5, 4))
