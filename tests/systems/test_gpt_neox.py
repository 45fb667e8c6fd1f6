"""`gpt-neox` against Hugging Face's GPT-NeoX."""

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal
from support.parity import ids, perturb, ragged


@pytest.mark.parametrize("changes", [{}, {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0}}])
@pytest.mark.parametrize("left", [False, True])
def test_equals_hugging_face(changes, left):
    given = {
        "vocab_size": 71, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3,
        **changes,
    }  # fmt: skip
    theirs = perturb(GPTNeoXForCausalLM(GPTNeoXConfig(**given)))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 20), ragged(3, 20, left=left)
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(inputs, attention_mask=mask.long(), position_ids=places).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


@pytest.mark.parametrize(
    ("size", "count"),
    [("20b", 20_554_567_680), ("pythia-70m", 70_426_624), ("pythia-410m", 405_334_016), ("pythia-1b", 1_011_781_632)],
)
def test_sizes_are_the_published_ones(size, count):
    assert parameters(on_meta(ef.design("gpt-neox", size))) == count
