"""Patching, ablation, and figures of heads, on models where the answer is known."""

from __future__ import annotations

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput
from everyformer.interpret import ablate_heads, find_heads, patch, patch_tokens
from everyformer.interpret.patterns import distance, duplicate_score, entropy, induction_score, offset_score
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny


@pytest.fixture
def model():
    return model_of(tiny("gpt"))


def last(answer):
    return answer[:, -1, 3].mean()


def test_the_whole_stream_patched_gives_the_answer_of_its_source(model):
    clean, corrupted = example(model, 2, seed=1), example(model, 2, seed=2)
    found = patch(model, corrupted, clean, "backbone.blocks.*", last)
    wanted = float(last(model(**clean)))
    assert [*found] == ["backbone.blocks.0", "backbone.blocks.1"]
    assert all(value == pytest.approx(wanted, abs=1e-5) for value in found.values())
    same = patch(model, corrupted, corrupted, "backbone.**.mixer", last)
    assert all(value == pytest.approx(float(last(model(**corrupted))), abs=1e-6) for value in same.values())


def test_where_one_token_differs_only_it_and_what_sees_it_matters(model):
    clean = example(model, 1)
    corrupted = {"inputs": clean["inputs"].clone()}
    corrupted["inputs"][0, 5] = (clean["inputs"][0, 5] + 1) % 20
    moved = patch_tokens(model, corrupted, clean, "backbone.blocks.0.input", last)
    plain, wanted = last(model(**corrupted)), last(model(**clean))
    close(moved[0, 5], wanted)
    assert (moved[0, :5] == plain).all()
    with pytest.raises(BadInput, match="not tokens"):
        patch_tokens(model, corrupted, clean, "backbone.blocks.0.mixer.weights", last)


def test_a_head_is_ablated_as_if_its_output_weights_were_zero(model):
    batch = example(model, 2)
    found = ablate_heads(model, batch, last)
    for layer in range(2):
        for head in range(4):
            other = model_of(tiny("gpt"))
            other.backbone.blocks[layer].mixer.output.weight.data[:, 8 * head : 8 * head + 8] = 0
            close(found[f"backbone.blocks.{layer}.mixer"][head], last(other(**batch)))
    swapped = ablate_heads(model, batch, last, instead=batch)
    assert (swapped["backbone.blocks.0.mixer"] - found["backbone.blocks.0.mixer"]).abs().max() > 1e-4


def test_figures_of_planted_heads():
    count, period = 8, 4
    ids = torch.arange(period).repeat(2)[None]
    previous = torch.zeros(count, count)
    previous[torch.arange(1, count), torch.arange(count - 1)] = 1
    previous[0, 0] = 1
    induction = torch.eye(count)
    induction[torch.arange(period, count)] = torch.eye(count)[torch.arange(1, period + 1)]
    same = torch.eye(count)
    same[torch.arange(period, count)] = torch.eye(count)[torch.arange(period)]
    weights = torch.stack((previous, induction, same))[None]
    close(offset_score(weights, -1), torch.tensor([1.0, 0.0, 0.0]))
    close(induction_score(weights, period), torch.tensor([0.0, 1.0, 0.0]))
    close(duplicate_score(weights, ids), torch.tensor([0.0, 0.0, 1.0]))
    close(entropy(weights), torch.zeros(3))
    close(distance(weights), torch.tensor([7 / 8, 12 / 8, 2.0]))


def test_every_head_has_its_figures(model):
    found = find_heads(model, torch.randint(0, 20, (2, 8)))
    assert [*found] == ["backbone.blocks.0.mixer", "backbone.blocks.1.mixer"]
    assert {name: value.shape for name, value in found["backbone.blocks.0.mixer"].items()} == dict.fromkeys(
        ("previous", "duplicate", "induction", "entropy", "distance"), (4,)
    )


def test_a_probe_reads_what_is_linear_and_no_more():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(600, 12, generator=generator)
    labels = (values @ torch.randn(12, 3, generator=generator)).argmax(-1)
    train, test = slice(0, 400), slice(400, 600)
    probe = ef.interpret.Probe.fit(values[train], labels[train])
    assert probe.accuracy(values[test], labels[test]) > 0.9
    shuffled = labels[train][torch.randperm(400, generator=generator)]
    assert ef.interpret.Probe.fit(values[train], shuffled).accuracy(values[test], labels[test]) < 0.6


def test_a_probe_is_ridge_regression():
    from sklearn.linear_model import Ridge

    values, labels = torch.randn(50, 6).double(), torch.randint(0, 3, (50,))
    gram = (values - values.mean(0)).square().sum(0).mean().item()
    theirs = Ridge(alpha=0.1 * gram).fit(values.numpy(), torch.nn.functional.one_hot(labels).numpy())
    ours = ef.interpret.Probe.fit(values, labels, strength=0.1)
    close(ours(values), torch.from_numpy(theirs.predict(values.numpy())))
