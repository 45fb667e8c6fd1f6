"""Discrete transformers: what they read and write, and the program that is printed of them."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interpret import anneal, as_program, discrete
from everyformer.interpret.discrete import preferred

NAMES = ["<s>", "a", "b", "c"]


def model(depth, seed, **more):
    return discrete(vocabulary=4, length=5, classes=3, depth=depth, hidden=8, **more).build(seed=seed).eval()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [1, 2])
def test_the_printed_program_alone_says_what_the_model_says(depth, seed):
    made = model(depth, seed)
    known: dict = {}
    exec(as_program(made, NAMES, ["x", "y", "z"]), known)
    inputs = torch.randint(0, 4, (100, 5), generator=torch.Generator().manual_seed(seed))
    said = made(inputs).argmax(-1).tolist()
    for row, classes in zip(inputs.tolist(), said, strict=True):
        assert known["run"]([NAMES[i] for i in row]) == ["xyz"[c] for c in classes]


def test_variables_stand_side_by_side_and_each_has_one_value():
    made = model(2, 0)
    inputs = torch.randint(0, 4, (20, 5))
    tokens = made.features(inputs)
    variables = tokens.values[..., : 10 * 5].unflatten(-1, (10, 5))
    assert torch.equal(variables.sum(-1), torch.ones(20, 5, 10))
    assert torch.equal(variables.max(-1).values, torch.ones(20, 5, 10))
    assert torch.equal(variables[:, :, 0, :4], F.one_hot(inputs, 4).float())
    assert torch.equal(tokens.values[..., 50], torch.ones(20, 5))
    assert tokens.width == 55


def test_a_head_copies_from_the_nearest_key_that_fits_and_a_count_counts():
    """The first head looks from a token to its like elsewhere, then to itself, and the first of all stands for none."""
    made = model(1, 0, copying=1, counting=1)
    mixer = made.backbone.blocks[0].mixer
    with torch.no_grad():
        for choice in (mixer.query, mixer.key):
            choice.scores[:, 0] = 99
        mixer.value.scores[:, 1] = 99
        mixer.wanted.scores.copy_(99 * torch.tensor([3, 2, 1, 0, 4]).eq(torch.arange(5)[:, None]).float())
    tokens = torch.tensor([[0, 1, 3, 2, 1]])
    seen = mixer(made.embedding(tokens))
    assert seen[0, :, 10:15].argmax(-1).tolist() == [2, 3, 0, 4, 3]
    assert seen[0, :, -1].tolist() == [1, 1, 1, 2, 1]


def test_a_key_that_does_not_fit_is_never_drawn():
    """Of three keys all fit the first query, the last one fits the second, none the third."""
    scores = preferred(torch.tensor([[[[1.0, 1, 1], [0, 0, 1], [0, 0, 0]]]]))
    assert scores.argmax(-1)[0, 0].tolist() == [1, 2, 0]
    drawn = F.gumbel_softmax(scores.expand(500, -1, -1, -1), 0.5)
    assert drawn[:, 0, 1, :2].max() < 1e-6 < drawn[:, 0, 0, 2].max()


def test_in_training_choices_are_soft_and_all_are_learned():
    made = model(1, 0).train()
    anneal(made, 2.0)
    made(torch.randint(0, 4, (8, 5))).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in made.parameters() if p.shape[-1] > 1)
    torch.manual_seed(0)
    warm = made.backbone.blocks[0].mixer.query(3).max(-1).values.mean()
    anneal(made, 1e-4)
    assert made.backbone.blocks[0].mixer.query(3).max(-1).values.mean() > max(0.99, warm)


def test_what_is_not_discrete_is_refused():
    with pytest.raises(DoesNotFit, match="interpret.discrete designed"):
        as_program(ef.create("gpt", vocabulary=5, width=8, depth=1, heads=1, length=4), NAMES, "xyz")
    with pytest.raises(BadInput, match="a sequence of 6 tokens, built for 5"):
        model(1, 0)(torch.zeros(1, 6, dtype=torch.long))
