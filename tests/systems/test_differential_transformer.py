"""`differential-transformer` against Hugging Face's DiffLlama."""

import math

import pytest
import torch
from transformers import DiffLlamaConfig, DiffLlamaForCausalLM

import everyformer as ef
from everyformer.interop import from_transformers
from everyformer.mixers import Attention, DifferentialAttention
from everyformer.tokens import Tokens
from support.agreement import equal
from support.parity import ids, perturb, ragged


@pytest.mark.parametrize("left", [False, True])
def test_equals_hugging_face(left):
    config = DiffLlamaConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    theirs = perturb(DiffLlamaForCausalLM(config))
    ours = from_transformers(theirs)
    inputs, mask = ids(61, 3, 20), ragged(3, 20, left=left)
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(inputs, attention_mask=mask.long(), position_ids=places).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_noise_that_both_heads_see_cancels():
    """Equal scores in both heads of a pair and l = 1: nothing is left."""
    mixer = DifferentialAttention(16, heads=2, initial=0.5)
    with torch.no_grad():
        query, key, _ = mixer.qkv.weight.split(16)
        query[8:] = query[:8]
        key[8:] = key[:8]
        mixer.vectors.zero_()
        mixer.vectors[:16:8] = math.log(1.5) ** 0.5
    assert mixer(Tokens(torch.randn(2, 5, 16))).abs().max() <= 1e-4


def test_without_the_second_head_it_is_normalised_attention():
    """l = 0: the first heads alone, on the values of both."""
    torch.manual_seed(0)
    mixer, plain = DifferentialAttention(16, heads=2, initial=0.0), Attention(16, heads=2, bias=False)
    plain.load_state_dict({name: t for name, t in mixer.state_dict().items() if name != "vectors"})
    with torch.no_grad():
        mixer.vectors.zero_()
        plain.output.weight.copy_(torch.eye(16))
        mixer.output.weight.copy_(torch.eye(16))
        for weight in (mixer.qkv.weight, plain.qkv.weight):
            weight[8:16], weight[24:32] = weight[:8], weight[16:24]
    tokens = Tokens(torch.randn(2, 5, 16))
    wanted = torch.nn.functional.rms_norm(plain(tokens), (16,), eps=1e-5)
    torch.testing.assert_close(mixer(tokens), wanted, atol=1e-5, rtol=1e-5)


def test_odd_heads_are_refused():
    with pytest.raises(ef.DoesNotFit, match="heads come in pairs; given 3"):
        ef.spec(DifferentialAttention, heads=3).build(24)
