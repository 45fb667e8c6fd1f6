"""`gpt` against Hugging Face's GPT-2."""

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged


def test_equals_hugging_face():
    config = GPT2Config(vocab_size=71, n_positions=20, n_embd=48, n_layer=3, n_head=4)
    theirs = perturb(GPT2LMHeadModel(config))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 13), ragged(3, 13)
    expected = theirs(inputs, attention_mask=mask.long()).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_equals_hugging_face_padded_left():
    config = GPT2Config(vocab_size=71, n_positions=20, n_embd=48, n_layer=2, n_head=4)
    theirs = perturb(GPT2LMHeadModel(config))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 13), ragged(3, 13, left=True)
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(inputs, attention_mask=mask.long(), position_ids=places).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


@pytest.mark.parametrize(("size", "count"), [("small", 124_439_808), ("medium", 354_823_168), ("xl", 1_557_611_200)])
def test_sizes_are_the_published_ones(size, count):
    assert parameters(on_meta(ef.design("gpt", size))) == count


@pytest.mark.parametrize(
    ("size", "width", "count"), [("opt-125m", 768, 125_239_296), ("opt-1.3b", 2048, 1_315_758_080)]
)
def test_sizes_of_opt_are_the_published_ones_but_for_the_rows_of_no_token(size, width, count):
    assert parameters(on_meta(ef.design("gpt", size))) == count - 2 * width


def test_nano_is_nanogpts_setting_for_a_cpu():
    model = on_meta(ef.design("gpt", "nano", vocabulary=65))
    assert parameters(model) - 64 * 128 == pytest.approx(0.80e6, rel=0.01)
