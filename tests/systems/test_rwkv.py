"""`rwkv` against Hugging Face's RWKV-4."""

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from support.agreement import equal
from support.parity import ids, perturb


def build(**changes):
    given = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "context_length": 64, "rescale_every": 0}
    return perturb(RwkvForCausalLM(RwkvConfig(**given, **changes)))


@pytest.mark.parametrize(
    "changes", [{}, {"attention_hidden_size": 16, "intermediate_size": 40}], ids=["plain", "widths"]
)
def test_equals_hugging_face(changes):
    theirs = build(**changes)
    ours = from_transformers(theirs)
    inputs = ids(61, 2, 70)
    equal(ours, theirs, ours(inputs), theirs(inputs, use_cache=False).logits)


def test_goes_back():
    ours = perturb(ef.create("rwkv", seed=0, vocabulary=61, width=24, inner=16, depth=2))
    theirs = to_transformers(ours)
    inputs = ids(61, 2, 20)
    assert (ours(inputs) - theirs(inputs, use_cache=False).logits).abs().max() <= 1e-5
    again = tensors(from_transformers(theirs))
    assert all(torch.equal(one, again[name]) for name, one in tensors(ours).items())


@pytest.mark.parametrize(
    ("size", "published"), [("169m", 1.693e8), ("430m", 4.304e8), ("1.5b", 1.515e9), ("7b", 7.393e9), ("14b", 1.415e10)]
)
def test_sizes_are_the_published_ones(size, published):
    """Table 1."""
    assert parameters(on_meta(ef.design("rwkv", size))) == pytest.approx(published, rel=0.01)
