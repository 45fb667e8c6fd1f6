"""`modernbert` against Hugging Face's."""

import pytest
from transformers import ModernBertConfig, ModernBertForMaskedLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged

SIZES = {
    "vocab_size": 71, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "local_attention": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip


def test_equals_hugging_face():
    theirs = perturb(ModernBertForMaskedLM(ModernBertConfig(**SIZES)))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 12), ragged(3, 12)
    equal(ours, theirs, ours(inputs, mask=mask), theirs(inputs, attention_mask=mask.long()).logits, mask)


@pytest.mark.parametrize(("size", "published"), [("base", 149e6), ("large", 395e6)])
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("modernbert", size))) == pytest.approx(published, rel=0.01)


def test_layers_in_another_order_are_refused():
    theirs = ModernBertForMaskedLM(
        ModernBertConfig(**SIZES, layer_types=["sliding_attention", "full_attention", "full_attention"])
    )
    with pytest.raises(ef.DoesNotFit, match="in the system every n-th layer sees all"):
        from_transformers(theirs)
