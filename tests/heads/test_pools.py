"""Pools and heads against plain loops; packed sequences give what padded ones give."""

import pytest
import torch

import everyformer as ef
from everyformer.heads import AttentionPool, ClassHead, FirstToken, ForecastHead, LeadingMean, Mean
from everyformer.tokens import Tokens, pack

LENGTHS = (6, 4, 2)
POOLS = (FirstToken, LeadingMean, Mean, AttentionPool)


def tokens(prefix=1, weights=False, left=False):
    """Three sequences of different lengths, what is padding made large so that no pool may touch it."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    mask = mask.flip(1) if left else mask
    values = torch.randn(3, 6, 8, generator=generator).masked_fill(~mask[..., None], 1e4)
    mass = torch.randint(1, 5, (3, 6), generator=generator).float() if weights else None
    return Tokens(values, mask=mask, prefix=prefix, weights=mass)


def built(pool):
    torch.manual_seed(1)
    return ef.spec(pool).build(8)


def literal(name, pool, values, weights, prefix):
    """One sequence without padding."""
    if name == "FirstToken":
        return values[0]
    if name == "LeadingMean":
        return sum(values[:prefix]) / prefix
    weights = torch.ones(len(values)) if weights is None else weights
    if name == "Mean":
        return sum(w * v for v, w in zip(values[prefix:], weights[prefix:], strict=True)) / weights[prefix:].sum()
    scores = torch.stack([w * torch.exp(pool.score.weight[0] @ v) for v, w in zip(values, weights, strict=True)])
    return sum(s * v for s, v in zip(scores, values, strict=True)) / scores.sum()


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.__name__)
def test_pool_equals_a_loop_padded_and_packed(pool, weights):
    given, module = tokens(weights=weights), built(pool)
    expected = torch.stack(
        [
            literal(pool.__name__, module, given.values[b, :n], None if not weights else given.weights[b, :n], 1)
            for b, n in enumerate(LENGTHS)
        ]
    )
    torch.testing.assert_close(module(given), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(module(pack(given)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", [FirstToken, AttentionPool], ids=lambda p: p.__name__)
def test_padding_on_the_left_changes_nothing(pool):
    given, module = tokens(left=True), built(pool)
    expected = [literal(pool.__name__, module, given.values[b, 6 - n :], None, 1) for b, n in enumerate(LENGTHS)]
    torch.testing.assert_close(module(given), torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.__name__)
def test_pool_equals_a_loop_without_padding(pool):
    given, module = Tokens(torch.randn(2, 5, 8), prefix=2), built(pool)
    expected = [literal(pool.__name__, module, values, None, 2) for values in given.values]
    torch.testing.assert_close(module(given), torch.stack(expected), rtol=0, atol=1e-5)


def test_attention_pool_of_weight_zero_is_the_mean():
    given, module = tokens(prefix=0), built(AttentionPool)
    torch.nn.init.zeros_(module.score.weight)
    torch.testing.assert_close(module(given), built(Mean)(given), rtol=0, atol=1e-6)


def test_attention_pool_does_not_know_the_order():
    given, module = Tokens(torch.randn(2, 5, 8)), built(AttentionPool)
    mixed = given.update(given.values[:, torch.tensor([3, 1, 4, 0, 2])])
    torch.testing.assert_close(module(mixed), module(given), rtol=0, atol=1e-6)


def test_attention_pool_is_a_convex_mean():
    """Its weights sum to 1: the same vector everywhere is what comes out."""
    module = built(AttentionPool)
    vector = torch.randn(8)
    torch.testing.assert_close(module(Tokens(vector.expand(1, 7, 8)))[0], vector, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", [Mean, AttentionPool], ids=lambda p: p.__name__)
def test_a_token_of_weight_two_is_two_tokens(pool):
    module, values = built(pool), torch.randn(1, 4, 8)
    doubled = torch.cat((values, values[:, 3:]), 1)
    once = Tokens(values, weights=torch.tensor([[1.0, 1, 1, 2]]))
    torch.testing.assert_close(module(once), module(Tokens(doubled)), rtol=0, atol=1e-6)


def test_class_head_equals_its_words():
    head = ef.spec(
        ClassHead, classes=4, pool=ef.spec(Mean), norm=ef.spec(ef.norms.LayerNorm), hidden=True
    ).build(8)  # fmt: skip
    values = torch.randn(2, 5, 8)
    pooled = torch.nn.functional.layer_norm(values.mean(1), (8,))
    expected = torch.tanh(pooled @ head.hidden.weight.T + head.hidden.bias) @ head.classify.weight.T
    torch.testing.assert_close(head(Tokens(values)), expected + head.classify.bias, rtol=0, atol=1e-6)


def test_class_head_answers_one_row_a_packed_sequence():
    head, given = ef.spec(ClassHead, classes=4).build(8), tokens()
    assert head(pack(given)).shape == (3, 4)
    torch.testing.assert_close(head(pack(given)), head(given), rtol=0, atol=1e-5)


def test_forecast_head_is_one_map_for_every_variate():
    head = ef.spec(ForecastHead, horizon=3).build(8)
    values = torch.randn(2, 5, 8)
    found = head(Tokens(values, prefix=2))
    assert found.shape == (2, 3, 3)
    for c in range(3):
        torch.testing.assert_close(found[:, :, c], head.project(values[:, c + 2]), rtol=0, atol=1e-6)
