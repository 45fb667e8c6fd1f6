"""`llama` against Hugging Face's Llama."""

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged

SCALED = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def build(**changes):
    given = {
        "vocab_size": 71, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 64, **changes,
    }  # fmt: skip
    return perturb(LlamaForCausalLM(LlamaConfig(**given)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_parameters": SCALED, "num_key_value_heads": 1, "tie_word_embeddings": True},
        {"head_dim": 12, "attention_bias": True, "rms_norm_eps": 1e-5},
    ],
    ids=["grouped", "llama3 scaling, multi-query, tied", "wide heads, biases"],
)
@pytest.mark.parametrize("left", [False, True])
def test_equals_hugging_face(changes, left):
    theirs = build(**changes)
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 40), ragged(3, 40, left=left)
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(inputs, attention_mask=mask.long(), position_ids=places).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_a_scaling_that_the_system_does_not_have_is_refused():
    theirs = build(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    with pytest.raises(ef.DoesNotFit, match="rope_type 'linear'"):
        from_transformers(theirs)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("7b", 6_738_415_616), ("3-8b", 8_030_261_248), ("3.2-1b", 1_235_814_400), ("mistral-7b", 7_241_732_096),
        ("qwen2-0.5b", 494_032_768), ("qwen2-7b", 7_615_616_512), ("qwen3-0.6b", 596_049_920), ("qwen3-8b", 8_190_735_360),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(size, count):
    assert parameters(on_meta(ef.design("llama", size))) == count
