"""`bert` against Hugging Face's BERT."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

import everyformer as ef
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged


def config(**changes):
    return BertConfig(
        vocab_size=71, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=20, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_masked_language_model_equals_hugging_face(activation):
    theirs = perturb(BertForMaskedLM(config(hidden_act=activation)))
    ours = from_transformers(theirs)
    inputs, mask, segments = ids(71, 3, 13), ragged(3, 13), ids(3, 3, 13, seed=5) - 1
    expected = theirs(inputs, attention_mask=mask.long(), token_type_ids=segments).logits
    equal(ours, theirs, ours(inputs, mask=mask, segments=segments), expected, mask)


def test_classifier_equals_hugging_face():
    theirs = perturb(BertForSequenceClassification(config(num_labels=5)))
    ours = from_transformers(theirs)
    inputs, mask, segments = ids(71, 3, 13), ragged(3, 13), ids(3, 3, 13, seed=5) - 1
    expected = theirs(inputs, attention_mask=mask.long(), token_type_ids=segments).logits
    equal(ours, theirs, ours(inputs, mask=mask, segments=segments), expected)


def test_base_has_the_published_size():
    from everyformer.costs import on_meta, parameters

    assert parameters(on_meta(ef.design("bert", "base", classes=2))) == 109_483_778
    assert parameters(on_meta(ef.design("bert", "distilbert-base"))) == 66_985_530
    rows_of_no_token = 2 * 768  # fairseq's table of positions has two more
    assert parameters(on_meta(ef.design("bert", "roberta-base"))) == 124_697_433 - rows_of_no_token


def test_classes_decide_the_head():
    inputs = torch.zeros(2, 4, dtype=torch.long)
    assert ef.create("bert", "tiny", vocabulary=11, classes=3).eval()(inputs).shape == (2, 3)
    assert ef.create("bert", "tiny", vocabulary=11).eval()(inputs).shape == (2, 4, 11)
