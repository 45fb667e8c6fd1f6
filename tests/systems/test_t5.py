"""`t5` against Hugging Face's T5, versions 1.0 and 1.1."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged


def build(version):
    shape = {
        "vocab_size": 71, "d_model": 48, "d_kv": 10, "d_ff": 96, "num_layers": 3, "num_decoder_layers": 2,
        "num_heads": 4, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
    }  # fmt: skip
    if version == "1.0":
        return perturb(T5ForConditionalGeneration(T5Config(**shape)))
    theirs = T5ForConditionalGeneration(T5Config(**shape, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn(71, 48, generator=torch.Generator().manual_seed(3)))
    return perturb(theirs)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_equals_hugging_face(version):
    theirs = build(version)
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 19), ragged(3, 19)
    target, target_mask = ids(71, 3, 17, seed=4), ragged(3, 17)
    expected = theirs(
        inputs, attention_mask=mask.long(), decoder_input_ids=target, decoder_attention_mask=target_mask.long()
    ).logits
    answer = ours(inputs, target, mask=mask, target_mask=target_mask)
    equal(ours, theirs, answer, expected, target_mask)


@pytest.mark.parametrize(("size", "count"), [("small", 60_506_624), ("base", 222_903_552), ("v1.1-base", 247_577_856)])
def test_sizes_are_the_published_ones(size, count):
    assert parameters(on_meta(ef.design("t5", size))) == count


def test_scores_start_as_those_of_scaled_attention():
    model = ef.create("t5", "small", vocabulary=100, seed=0)
    mixer = model.encoder.blocks[0].mixer
    queries = mixer.qkv.weight[: mixer.sizes[0]]
    keys = mixer.qkv.weight[mixer.sizes[0] : 2 * mixer.sizes[0]]
    assert queries.std().item() == pytest.approx((512 * 64) ** -0.5, rel=0.02)
    assert keys.std().item() == pytest.approx(512**-0.5, rel=0.02)
    assert model.source.table.weight.std().item() == pytest.approx(1.0, rel=0.02)
