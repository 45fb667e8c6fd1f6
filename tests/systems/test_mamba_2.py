"""`mamba-2` against Hugging Face's Mamba2."""

import pytest
from transformers import Mamba2Config, Mamba2ForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from support.agreement import equal
from support.parity import ids, perturb, ragged


def build(**changes):
    given = {
        "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 6, "head_dim": 8, "state_size": 10,
        "n_groups": 1, "chunk_size": 16, "pad_token_id": None, **changes,
    }  # fmt: skip
    return perturb(Mamba2ForCausalLM(Mamba2Config(**given)))


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, False),
        ({"n_groups": 2, "tie_word_embeddings": True}, True),
        ({"use_bias": True, "use_conv_bias": False, "conv_kernel": 3}, False),
    ],
    ids=["plain", "groups, tied, padded on the left", "biases, another convolution"],
)
def test_equals_hugging_face(changes, left):
    """With biases their padding on the left is not zero and reaches the first tokens through the convolution."""
    theirs = build(**changes)
    ours = from_transformers(theirs)
    inputs, mask = ids(61, 3, 40), ragged(3, 40, left=left)
    expected = theirs(inputs, attention_mask=mask.long()).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_its_files_are_read(tmp_path):
    theirs, inputs = build(), ids(61, 2, 20)
    theirs.save_pretrained(tmp_path)
    assert (ef.load(tmp_path)(inputs) - theirs(inputs).logits).abs().max() <= 1e-5


def test_goes_back():
    ours = perturb(ef.create("mamba-2", "nano", seed=0, vocabulary=61, width=32, depth=1, groups=2))
    theirs = to_transformers(ours)
    inputs = ids(61, 2, 20)
    assert (ours(inputs) - theirs(inputs).logits).abs().max() <= 1e-5
    again = tensors(from_transformers(theirs))
    assert all((one == again[name]).all() for name, one in tensors(ours).items())


@pytest.mark.parametrize(("size", "published"), [("130m", 129e6), ("370m", 368e6), ("780m", 780e6), ("2.7b", 2.7e9)])
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("mamba-2", size))) == pytest.approx(published, rel=0.01)


def test_a_limit_of_step_sizes_is_refused():
    with pytest.raises(ef.DoesNotFit, match=r"time_step_limit=\[0.0, 0.1\]"):
        from_transformers(build(time_step_limit=(0.0, 0.1)))
