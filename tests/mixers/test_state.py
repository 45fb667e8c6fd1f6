"""Attention in pieces is attention, however it is cut and joined."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from everyformer.mixers.attend import Lowered
from everyformer.mixers.state import State, merged, split, state


def operands(n=5, m=23, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, 4, count, 8, generator=generator) for count in (n, m, m))
    return query * spread, key, value


@pytest.mark.parametrize("spread", [1.0, 80.0])
@pytest.mark.parametrize("size", [1, 7, 23, 64])
def test_split_keys_are_attention(size, spread):
    query, key, value = operands(spread=spread)
    found = split(query, key, value, lowered=Lowered(), scale=8**-0.5, size=size)
    torch.testing.assert_close(found.finish(), F.scaled_dot_product_attention(query, key, value), atol=1e-5, rtol=0)
    scores = query.double() @ key.double().mT * 8**-0.5
    torch.testing.assert_close(found.logsumexp()[..., 0].double(), scores.logsumexp(-1), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", ["causal", "padding", "bias"])
def test_under_masks_and_biases_with_gradients(kind):
    given = [x.requires_grad_() for x in operands(n=9, m=9)]
    query, key, value = given
    bias = torch.randn(1, 4, 9, 9)
    real = torch.arange(9) < torch.tensor([9, 4])[:, None, None, None]
    lowered = {"causal": Lowered(causal=True), "padding": Lowered(allowed=real), "bias": Lowered()}[kind]
    mask = {"causal": torch.ones(9, 9).tril().bool(), "padding": real, "bias": bias}[kind]
    chunked = split(
        query, key[:, ::2], value[:, ::2], lowered=lowered, scale=0.3, size=4, bias=bias if kind == "bias" else None
    )
    wanted = F.scaled_dot_product_attention(query, key[:, ::2], value[:, ::2], mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(chunked.finish(), wanted, atol=1e-5, rtol=0)
    weights = torch.randn(wanted.shape)
    found = torch.autograd.grad((chunked.finish() * weights).sum(), given)
    torch.testing.assert_close(found, torch.autograd.grad((wanted * weights).sum(), given), atol=1e-5, rtol=0)


def test_any_order_and_any_tree_gives_the_same():
    query, key, value = operands(m=12)
    scores = query @ key.mT
    parts = [state(scores[..., i : i + 3], value[..., i : i + 3, :]) for i in range(0, 12, 3)]
    wanted = scores.softmax(-1) @ value
    for order in itertools.permutations(range(4)):
        a, b, c, d = (parts[i] for i in order)
        for joined in (merged(a, b, c, d), a.merge(b).merge(c.merge(d)), a.merge(b.merge(c.merge(d)))):
            torch.testing.assert_close(joined.finish(), wanted, atol=1e-6, rtol=1e-5)


def test_the_state_of_no_keys_changes_nothing_and_finishes_as_zero():
    query, key, value = operands()
    scores = query @ key.mT
    none = state(scores, value, torch.zeros(5, 23, dtype=torch.bool))
    some = state(scores, value)
    for joined in (none.merge(some), some.merge(none)):
        assert all(torch.equal(a, b) for a, b in zip(joined, some, strict=True))
    assert torch.equal(none.merge(none).finish(), torch.zeros(2, 4, 5, 8))
    assert isinstance(none, State)


def test_one_softmax_over_tokens_and_summaries():
    """Tokens weigh one each, a summary as many as it stands for: exact where the tokens of a block are equal."""
    query, key, value = operands(m=12)
    key[:, :, 4:] = key[:, :, 4::4].repeat_interleave(4, 2)
    value[:, :, 4:] = value[:, :, 4::4].repeat_interleave(4, 2)
    direct = state(query @ key[:, :, :4].mT, value[:, :, :4])
    summaries = state(query @ key[:, :, 4::4].mT + torch.tensor(4.0).log(), value[:, :, 4::4])
    wanted = (query @ key.mT).softmax(-1) @ value
    torch.testing.assert_close(merged(direct, summaries).finish(), wanted, atol=1e-5, rtol=0)


def test_extreme_scores_with_gradients_stay_finite():
    query, key, value = (x.requires_grad_() for x in operands(spread=1e4))
    allowed = torch.rand(5, 23) > 0.6
    allowed[0] = False
    found = split(query, key, value, lowered=Lowered(allowed=allowed[None, None]), scale=1.0, size=6).finish()
    found.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))
