"""`bloom` against Hugging Face's."""

import pytest
from transformers import BloomConfig, BloomForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged


@pytest.mark.parametrize("left", [False, True])
def test_equals_hugging_face(left):
    """Three heads: their slopes are no plain geometric series."""
    theirs = perturb(BloomForCausalLM(BloomConfig(vocab_size=71, hidden_size=24, n_layer=2, n_head=3)))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 12), ragged(3, 12, left=left)
    equal(ours, theirs, ours(inputs, mask=mask), theirs(inputs, attention_mask=mask.long()).logits, mask)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("560m", 559_214_592), ("1b1", 1_065_314_304), ("1b7", 1_722_408_960), ("3b", 3_002_557_440),
        ("7b1", 7_069_016_064), ("176b", 176_247_271_424),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(size, count):
    """Table 5."""
    assert parameters(on_meta(ef.design("bloom", size))) == count
