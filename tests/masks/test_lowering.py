"""A mask becomes the cheapest thing that a kernel takes, and every kernel gives the same."""

import pytest
import torch

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.masks import Block, Causal, Dilated, Full, Prefix, Window
from everyformer.mixers import flex
from everyformer.mixers.attend import Lowered, Sparse, lower

COUNT = 300
CPU = torch.device("cpu")


def tokens(count=5, batch=2, mask=None):
    return ef.Tokens(torch.randn(batch, count, 8), mask=mask)


def right(count, *lengths):
    return torch.arange(count) < torch.tensor(lengths)[:, None]


def test_no_mask_where_all_is_allowed():
    assert lower(Full(), tokens(), Context()) == Lowered()
    assert lower(Causal(), tokens(1), Context()) == Lowered()


def test_the_kernels_own_flag_where_the_place_is_causal():
    assert lower(Causal(), tokens(), Context()) == Lowered(causal=True)


def test_padding_alone_is_one_row_for_all_queries():
    mask = right(5, 5, 3)
    assert torch.equal(lower(Full(), tokens(mask=mask), Context()).allowed, mask[:, None, None, :])


def test_without_padding_one_mask_serves_the_batch():
    assert lower(Window(2), tokens(), Context()).allowed.shape == (1, 1, 5, 5)
    assert lower(Causal(), tokens(mask=right(5, 5, 3)), Context()).allowed.shape == (2, 1, 5, 5)


def test_the_layers_of_a_pass_share_what_was_lowered():
    context, each = Context(), tokens()
    assert lower(Window(2), each, context) is lower(Window(2), each, context)
    assert lower(Window(2), each, context) is not lower(Window(3), each, context)


@pytest.mark.parametrize("mask", [Causal(), Window(3), Causal() & Dilated(2), Block(2, 1), Causal() | Prefix(2)])
def test_fewer_queries_than_keys_stand_at_the_end(mask):
    context = Context(cache=Cache())
    context.cache.advance(tokens(4))
    allowed = lower(mask, tokens(3), context).allowed[0, 0]
    queries, keys = torch.arange(4, 7)[:, None], torch.arange(7)[None]
    assert torch.equal(allowed, mask.allows(queries, keys))


@pytest.mark.parametrize("mask", [Causal(), Window(3), Causal() & Dilated(2), Block(2, 1), Causal() | Prefix(2)])
@pytest.mark.parametrize("left", [False, True])
def test_padding_in_the_cache_takes_no_place(mask, left):
    prompt = right(4, 4, 2)
    context = Context(cache=Cache())
    context.cache.advance(tokens(4, mask=prompt.flip(1) if left else prompt))
    allowed = lower(mask, tokens(2), context).allowed[1, 0]
    kept = [2, 3, 4, 5] if left else [0, 1, 4, 5]
    expected = mask.allows(torch.arange(2, 4)[:, None], torch.arange(4)[None])
    assert torch.equal(allowed[:, kept], expected)
    assert allowed.sum() == expected.sum()


def test_a_hole_in_a_sequence_takes_no_place():
    mask = torch.tensor([[True, True, False, False, True, True]])
    allowed = lower(Window(1), tokens(6, 1, mask), Context()).allowed[0, 0]
    assert allowed[4].tolist() == [False, True, False, False, True, False]


SPARSE = [Window(20), Causal() & Window(40, 40), Block(64, 1), Window(10, 10) | Prefix(4)]


def forced(monkeypatch):
    monkeypatch.setattr(flex, "worthwhile", lambda mask, count, device: True)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("mask", SPARSE, ids=str)
def test_flex_attention_equals_the_dense_mask(mask, padded, monkeypatch):
    mixer = ef.mixers.Attention(32, heads=4, key_heads=2)
    batch = ef.Tokens(torch.randn(3, COUNT, 32), mask=right(COUNT, COUNT, 170, 0) if padded else None)
    real = slice(None) if batch.mask is None else batch.mask
    with torch.no_grad():
        dense = mixer(batch, Context(mask=mask))
        forced(monkeypatch)
        assert isinstance(lower(mask, batch, Context()), Sparse)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", None)
        found = mixer(batch, Context(mask=mask))
    assert found.isfinite().all()
    torch.testing.assert_close(found[real], dense[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("why", ["a bias", "a watched tap", "dropout"])
def test_what_flex_attention_does_not_do_takes_the_dense_mask(why, monkeypatch):
    positions = ef.spec(ef.positions.ALiBi) if why == "a bias" else None
    mixer = ef.mixers.Attention(32, heads=4, positions=positions, dropout=0.1 if why == "dropout" else 0.0)
    if why == "a watched tap":
        mixer.weights.register_forward_hook(lambda *_: None)
    batch = ef.Tokens(torch.randn(1, COUNT, 32))

    def run():
        torch.manual_seed(1)
        return mixer(batch, Context(mask=Window(20)))

    dense = run()
    forced(monkeypatch)
    monkeypatch.setattr(flex, "flex", None)
    assert torch.equal(run(), dense)


def test_flex_attention_is_for_masks_that_leave_out_whole_blocks():
    assert flex.left_out(Full(), 1024, CPU) == 0
    assert flex.left_out(Dilated(2), 1024, CPU) == 0
    assert flex.left_out(Causal(), 1024, CPU) == pytest.approx(28 / 64)
    assert flex.left_out(Window(128), 1024, CPU) == pytest.approx(1 - 15 / 64)
    assert flex.left_out(Block(128), 1024, CPU) == pytest.approx(1 - 8 / 64)


def test_the_cpu_keeps_the_kernel_that_has_a_backward_pass():
    assert not flex.worthwhile(Window(1), 1 << 20, CPU)
