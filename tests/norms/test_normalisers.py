"""Norms of each token against torch's own and the papers' equations."""

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import everyformer as ef
from everyformer.norms import Identity, LayerNorm, ReversibleInstance, RMSNorm

VALUES = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3)) * 2 + 1


def nudged(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter))
    return norm


def same(ours, theirs, atol=1e-6):
    """Equal values and equal gradients of the input."""
    x, y = VALUES.clone().requires_grad_(), VALUES.clone().requires_grad_()
    a, b = ours(x), theirs(y)
    torch.testing.assert_close(a, b, rtol=0, atol=atol)
    weights = torch.randn_like(a)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_equals_torch(eps, bias):
    ours, theirs = nudged(LayerNorm(8, eps=eps, bias=bias)), nn.LayerNorm(8, eps=eps, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    same(ours, theirs)


def test_layer_norm_equals_equation_4():
    ours = nudged(LayerNorm(8, eps=0.1))

    def literal(x):
        mean = x.mean(-1, keepdim=True)
        deviation = ((x - mean) ** 2).mean(-1, keepdim=True).add(0.1).sqrt()
        return (x - mean) / deviation * ours.weight + ours.bias

    same(ours, literal)


def test_layer_norm_without_parameters():
    ours = LayerNorm(8, affine=False)
    assert not list(ours.parameters())
    same(ours, nn.LayerNorm(8, elementwise_affine=False))


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_rms_norm_equals_llama(eps):
    ours, theirs = nudged(RMSNorm(8, eps=eps)), LlamaRMSNorm(8, eps=eps)
    theirs.load_state_dict(ours.state_dict())
    same(ours, theirs)


def test_rms_norm_with_offset_equals_gemma():
    ours, theirs = RMSNorm(8, offset=1.0), GemmaRMSNorm(8)
    assert torch.equal(ours.weight, torch.zeros(8))
    nudged(ours)
    theirs.load_state_dict(ours.state_dict())
    same(ours, theirs)


def test_identity():
    assert torch.equal(Identity(8)(VALUES), VALUES)


def test_reversible_is_undone_exactly_whatever_the_scale():
    norm = ReversibleInstance()
    series = VALUES * torch.tensor([1e-3, 1, 10, 1e3, 1, 1, 1, 1]) + torch.arange(8) * 5
    normal, kept = norm(series)
    off = (norm.restore(normal, kept) - series).abs() / series.abs().amax(1, keepdim=True)
    assert off.max() < 1e-6


def test_reversible_equals_its_equation():
    normal, (mean, deviation) = ReversibleInstance(eps=0.1)(VALUES)
    for b in range(3):
        for c in range(8):
            each = VALUES[b, :, c].double()
            average = sum(each) / 5
            spread = (sum((x - average) ** 2 for x in each) / 5 + 0.1).sqrt()
            assert mean[b, 0, c].item() == pytest.approx(average.item(), abs=1e-6)
            assert deviation[b, 0, c].item() == pytest.approx(spread.item(), abs=1e-6)
            torch.testing.assert_close(normal[b, :, c].double(), (each - average) / spread, rtol=0, atol=1e-6)


def test_reversible_restores_another_length():
    norm = ReversibleInstance()
    _, (mean, deviation) = norm(VALUES)
    answer = torch.randn(3, 2, 8)
    restored = norm.restore(answer, (mean, deviation))
    torch.testing.assert_close(restored, answer * deviation + mean)


def test_a_constant_series_stays_finite():
    norm = ReversibleInstance()
    normal, kept = norm(torch.full((1, 4, 2), 7.0))
    assert torch.equal(normal, torch.zeros(1, 4, 2))
    assert torch.equal(norm.restore(normal, kept), torch.full((1, 4, 2), 7.0))


def test_an_option_that_is_none_of_theirs_is_refused():
    with pytest.raises(ef.UnknownName, match="unknown option of RMSNorm 'epsilon'; did you mean 'eps'"):
        ef.spec(RMSNorm, epsilon=1e-3)
