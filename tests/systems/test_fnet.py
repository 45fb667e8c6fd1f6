"""`fnet` against Hugging Face's FNet."""

import pytest
import torch
from transformers import FNetConfig, FNetForMaskedLM, FNetForSequenceClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from support.agreement import equal
from support.parity import ids, perturb

SHAPE = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, "max_position_embeddings": 20,
    "type_vocab_size": 3,
}  # fmt: skip


@pytest.mark.parametrize("kind", [FNetForMaskedLM, FNetForSequenceClassification])
def test_equals_hugging_face(kind):
    theirs = perturb(kind(FNetConfig(**SHAPE, num_labels=5)))
    ours = from_transformers(theirs)
    inputs, segments = ids(61, 3, 20).clamp(min=4), torch.arange(20).expand(3, -1) % 3
    expected = theirs(inputs, token_type_ids=segments).logits
    equal(ours, theirs, ours(inputs, segments=segments), expected)


@pytest.mark.parametrize("classes", [None, 5])
def test_goes_back(classes):
    ours = perturb(ef.create("fnet", seed=0, vocabulary=61, width=24, hidden=40, depth=2, length=20, classes=classes))
    theirs = to_transformers(ours)
    inputs = ids(61, 2, 20).clamp(min=4)
    found, expected = ours(inputs), theirs(inputs).logits
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max().item())
    again = tensors(from_transformers(theirs))
    assert all(torch.equal(one, again[name]) for name, one in tensors(ours).items())


def test_a_short_text_beside_a_long_one_is_transformed_alone():
    model = perturb(ef.create("fnet", seed=0, vocabulary=61, width=24, depth=2, length=20))
    inputs, mask = ids(61, 2, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    assert (model(inputs, mask=mask)[1, :6] - model(inputs[1:, :6])[0]).abs().max() <= 1e-5


@pytest.mark.parametrize(("size", "published"), [("base", 83e6), ("large", 238e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1."""
    assert parameters(on_meta(ef.design("fnet", size))) == pytest.approx(published, rel=0.01)
