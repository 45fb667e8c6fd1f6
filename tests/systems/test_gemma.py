"""`gemma` against Hugging Face's Gemma 2 and Gemma 3."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import close, equal
from support.parity import ids, perturb, ragged

SIZES = {
    "vocab_size": 71, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "query_pre_attn_scalar": 10, "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
CAPPED = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0}


@pytest.mark.parametrize(
    ("kind", "config", "changes"),
    [(Gemma2ForCausalLM, Gemma2Config, CAPPED), (Gemma3ForCausalLM, Gemma3TextConfig, {})],
)
def test_equals_hugging_face(kind, config, changes):
    theirs = perturb(kind(config(**SIZES, **changes)))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 12), ragged(3, 12)
    equal(ours, theirs, ours(inputs, mask=mask), theirs(inputs, attention_mask=mask.long()).logits, mask)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("2-2b", 589_824_000 + 2_024_517_888), ("2-9b", 917_504_000 + 8_324_201_984),
        ("2-27b", 1_179_648_000 + 26_047_480_320), ("3-1b", 999_885_952),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(size, count):
    """Table 2 of each report, with the 256,000 words that the published weights have."""
    assert parameters(on_meta(ef.design("gemma", size))) == count


def test_logits_stay_within_the_cap():
    head = ef.spec(ef.heads.TokenHead, vocabulary=7, cap=2.0).build(8)
    plain = ef.spec(ef.heads.TokenHead, vocabulary=7).build(8)
    plain.load_state_dict(head.state_dict())
    tokens = ef.Tokens(torch.randn(2, 3, 8) * 20)
    close(head(tokens), 2 * torch.tanh(plain(tokens) / 2))
    assert head(tokens).abs().max() <= 2
