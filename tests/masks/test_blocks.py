"""Sparse masks by blocks: what they list, and that attention by blocks is attention under the dense mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.masks import Block, Causal, Dilated, First, Full, Prefix, Random, Window
from everyformer.mixers import blocks
from everyformer.mixers.lowering import Listed, lower
from masks.test_masks import masks as any_mask

COUNT = 50
MASKS = {
    "window": Window(6, 3),
    "causal window": Causal() & Window(9),
    "local and global": Window(4, 4) | Prefix(2) | First(3),
    "dilated": Window(12, 12) & Dilated(3),
    "blocks": Block(8, 1),
    "big bird": Window(4, 4) | Random(4, 2, 13, 1) | Prefix(4) | First(4),
    "nothing for some": Window(3) & Dilated(50) & Block(5, 0),
}
POSITIONS = {
    "none": None,
    "rotary": ef.spec(ef.positions.Rotary),
    "alibi": ef.spec(ef.positions.ALiBi),
    "relative": ef.spec(ef.positions.Relative, farthest=3),
}


@pytest.fixture
def small(monkeypatch):
    """Blocks of 4, for however few tokens."""
    monkeypatch.setattr(blocks, "SIDE", 4)
    monkeypatch.setattr(blocks, "worthwhile", lambda mask, count: True)
    blocks.groups.cache_clear()
    yield
    blocks.groups.cache_clear()


def real(side):
    mask = torch.arange(COUNT) < torch.tensor([COUNT, 31, 0])[:, None]
    return {"none": None, "right": mask, "left": mask.flip(1), "holes": mask & (torch.arange(COUNT) % 5 != 2)}[side]


def run(mixer, values, mask, padding):
    tokens = ef.Tokens(values, mask=padding)
    update = mixer(tokens, Context(mask=mask))
    kept = update if padding is None else update[padding]
    gradients = torch.autograd.grad(kept.square().mean(), [values, *mixer.parameters()])
    return kept, gradients


@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", MASKS)
def test_by_blocks_equals_the_dense_mask(name, positions, padding, request):
    mixer = ef.mixers.Attention(16, heads=4, key_heads=2, positions=POSITIONS[positions])
    values = torch.randn(3, COUNT, 16, requires_grad=True)
    wanted = run(mixer, values, MASKS[name], real(padding))
    request.getfixturevalue("small")
    assert isinstance(lower(MASKS[name], ef.Tokens(values), Context()), Listed)
    found = run(mixer, values, MASKS[name], real(padding))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(mask=any_mask, side=st.integers(1, 5), count=st.integers(1, 17))
def test_blocks_that_are_left_out_allow_nothing(mask, side, count):
    first = torch.arange(0, count, side)
    last = (first + side - 1).clamp(max=count - 1)
    touched = mask.touches((first[:, None], last[:, None]), (first[None], last[None]))
    at = torch.arange(count)
    allowed = mask.allows(at[:, None], at[None])
    for i, j in (~touched).nonzero().tolist():
        assert not allowed[first[i] : last[i] + 1, first[j] : last[j] + 1].any()


@pytest.mark.parametrize("side", [3, 4, 8, 20])
def test_random_blocks_are_listed_where_they_are_drawn(side):
    mask = Random(4, 2, 10, seed=3)
    first = torch.arange(0, 40, side)
    last = (first + side - 1).clamp(max=39)
    touched = mask.touches((first[:, None], last[:, None]), (first[None], last[None]))
    at = torch.arange(40)
    allowed = mask.allows(at[:, None], at[None])
    for i, j in torch.cartesian_prod(*[torch.arange(len(first))] * 2).tolist():
        assert touched[i, j] == allowed[first[i] : last[i] + 1, first[j] : last[j] + 1].any()
    assert (allowed.sum(1) == 8).all()


def test_cost_grows_with_the_window_and_not_with_the_square():
    """The scores formed, counted: of 8 times the tokens 8 times as many."""
    formed = [blocks.share(Window(128, 128), count) * count**2 for count in (4096, 32768)]
    assert formed[1] / formed[0] == pytest.approx(8, rel=0.05)


def test_when_blocks_are_worth_their_while():
    assert not blocks.worthwhile(Window(10), 256)
    assert blocks.worthwhile(Window(10), 1024)
    assert not blocks.worthwhile(Causal(), 1024)
    assert not blocks.worthwhile(Full(), 4096)
    assert not blocks.worthwhile(Dilated(2), 4096)


def test_long_inputs_under_a_sparse_mask_never_meet_a_dense_one(monkeypatch):
    from everyformer.mixers import lowering

    monkeypatch.setattr(lowering, "_dense", None)
    mixer = ef.mixers.Attention(16, heads=2)
    shapes = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda q, k, *a, **o: (shapes.append(q.shape[0] * q.shape[2] * k.shape[2]), fused(q, k, *a, **o))[1],
    )
    for context in (Context(mask=Causal() & Window(100)), Context(mask=Causal() & Window(100), cache=Cache())):
        shapes.clear()
        assert mixer(ef.Tokens(torch.randn(1, 2000, 16)), context).shape == (1, 2000, 16)
        assert sum(shapes) < 2000 * 260


def test_while_weights_are_watched_the_mask_is_dense():
    mixer = ef.mixers.Attention(16, heads=2)
    seen = []
    plain = mixer(ef.Tokens(x := torch.randn(1, 600, 16)), Context(mask=Window(5)))
    mixer.weights.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    torch.testing.assert_close(mixer(ef.Tokens(x), Context(mask=Window(5))), plain, atol=1e-6, rtol=0)
    assert seen == [(1, 2, 600, 600)]


def test_merged_tokens_count_by_blocks_too(request):
    mixer = ef.mixers.Attention(16, heads=2)
    tokens = ef.Tokens(torch.randn(2, COUNT, 16), weights=torch.rand(2, COUNT) * 3 + 0.5)
    wanted = mixer(tokens, Context(mask=Window(5, 5)))
    request.getfixturevalue("small")
    torch.testing.assert_close(mixer(tokens, Context(mask=Window(5, 5))), wanted, atol=1e-6, rtol=0)


def test_other_widths_of_types(request):
    mixer = ef.mixers.Attention(16, heads=2).bfloat16()
    values = torch.randn(2, COUNT, 16).bfloat16().requires_grad_()
    wanted = mixer(ef.Tokens(values), Context(mask=Window(5, 5))).float()
    request.getfixturevalue("small")
    found = mixer(ef.Tokens(values), Context(mask=Window(5, 5)))
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), wanted, atol=2e-2, rtol=0)
    assert values.grad.isfinite().all()
