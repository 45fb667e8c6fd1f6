"""Vectors that make a frozen decoder say a sentence, against the injection written out."""

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, UnknownName
from everyformer.interpret import Sentences, find_sentences
from support.agreement import close, perturb

IDS = torch.randint(20, (2, 5), generator=torch.Generator().manual_seed(2))


def model():
    return perturb(ef.create("llama", vocabulary=20, width=32, hidden=48, depth=2, heads=2, seed=0), seed=3, std=0.2)


@pytest.mark.parametrize(
    "places", [("embedding",), ("backbone.blocks.*.input",), ("head.input",), ("embedding", "head.input")]
)
@torch.no_grad()
def test_it_is_added_where_it_is_said_to_be(places):
    made, z, lift = model(), torch.randn(2, 3), torch.randn(32, 3)
    added = torch.stack([lift @ each for each in z])[:, None]
    x = made.embedding.table(IDS) + (added if "embedding" in places else 0)
    for block in made.backbone.blocks:
        x = x + added if "backbone.blocks.*.input" in places else x
        x = block(ef.Tokens(x), ef.Context(mask=ef.masks.Causal())).values
    x = made.backbone.norm(x) + (added if "head.input" in places else 0)
    wanted = x @ made.head.project.weight.T
    with Sentences(z, lift, places, 1).within(made):
        close(made(IDS), wanted)
    assert not torch.allclose(made(IDS), wanted)
    with Sentences(z * 0, lift, places, 1).within(made):
        assert torch.equal(made(IDS), model()(IDS))


def test_sentences_are_said_and_the_model_stays():
    made = model().train()
    found = find_sentences(made, IDS, start=1)
    assert found.say(made, 5) == IDS.tolist()
    before = model()
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(made.parameters(), before.parameters()))
    assert all(module.training for module in made.modules())
    assert Sentences(torch.randn(2, 32), found.lift, found.places, 1).say(made, 5) != IDS.tolist()
    narrow = find_sentences(made, IDS, start=1, width=1, steps=20)
    assert narrow.vectors.shape == (2, 1)
    assert narrow.say(made, 5) != IDS.tolist()


def test_what_cannot_be_is_refused():
    for given, options, error in (
        (IDS[0], {}, (BadInput, "ids \\(B, N\\)")),
        (IDS, {"width": 0}, (BadInput, "width is 0")),
        (IDS, {"places": ("backbone.block",)}, (UnknownName, "backbone.block")),
    ):
        with pytest.raises(error[0], match=error[1]):
            find_sentences(model(), given, start=1, **options)
