"""`ia-red2` and thresholds: against their equations, a plain ViT, and the gradient by enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

import everyformer as ef
from everyformer.context import Context
from everyformer.reduction import thresholds
from everyformer.reduction.pruning import masked
from everyformer.tokens import Tokens
from support.parts import close
from support.rooms import attended

SMALL = {"classes": 3, "image": 8, "patch": 4, "channels": 1, "width": 16, "depth": 2, "heads": 2}


def interpreters(model: torch.nn.Module) -> list[ef.reduction.Interpreter]:
    return [each for each in model.modules() if isinstance(each, ef.reduction.Interpreter)]


def test_the_chance_is_that_of_the_equation():
    torch.manual_seed(0)
    part, x = ef.reduction.Interpreter(8, heads=2), torch.randn(2, 5, 8)
    got = part.scores(Tokens(x, prefix=1), Context())
    for b in range(2):
        for j in range(5):
            query, key = part.query(x[b, 0]).chunk(2), part.key(x[b, j]).chunk(2)
            chances = [torch.sigmoid(q @ k / 2) for q, k in zip(query, key)]
            close(got[b, j], sum(chances) / 2)


def test_where_all_stay_it_is_the_plain_model():
    model, plain = ef.create("ia-red2", groups=2, **SMALL, seed=0), ef.create("vit", **SMALL, seed=1)
    weights = {
        name.replace("blocks.1.", "blocks.3.").replace("blocks.0.", "blocks.1."): value
        for name, value in plain.state_dict().items()
    }
    lacking, more = model.load_state_dict(weights, strict=False)
    assert not more
    assert all(name.split(".")[3] in ("query", "key") for name in lacking)
    model.eval()
    plain.eval()
    for each in interpreters(model):
        each.least = 0.0
    x = torch.randn(2, 1, 8, 8)
    close(model(x), plain(x))


def test_dropping_by_mask_is_dropping_by_gathering():
    torch.manual_seed(0)
    part = ef.reduction.Interpreter(8, heads=2, least=0.5).eval()
    block = ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=2), feedforward=None).build(8)
    given = Tokens(torch.randn(3, 9, 8), prefix=1)
    stay = part.decide(given, Context())
    fewer = part(given)
    assert not stay.all()
    assert fewer.count == stay.sum(1).max()
    close(block(fewer).values[fewer.mask], block(masked(given, stay)).values[stay])


def test_in_a_graph_rows_are_as_long_as_before(monkeypatch):
    torch.manual_seed(0)
    part, given = ef.reduction.Interpreter(8, heads=2).eval(), Tokens(torch.randn(3, 9, 8), prefix=1)
    short = part(given)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    long = part(given)
    assert long.count == 9
    assert torch.equal(long.values[long.mask], short.values[short.mask])


def test_the_policy_gradient_is_that_of_the_expected_reward(monkeypatch):
    """All decisions on four patches, each weighted by its probability: what the likeliest one earns falls out."""
    model = ef.create("ia-red2", groups=1, **SMALL, seed=3).train()
    (asked,) = interpreters(model)
    picture = torch.randn(1, 1, 8, 8)
    batch = {"inputs": picture, "labels": model.eval()(picture).argmax(-1)}
    model.train()
    objective = ef.objectives.RewardedPruning(penalty=2.0, weight=0.7)
    tokens = model.embedding(batch["inputs"])
    tokens = tokens.replace(values=tokens.values.detach())
    wanted = got = torch.zeros_like(asked.key.weight)
    rewards = set()
    for stay in itertools.product((True, False), repeat=4):
        draws = torch.tensor([[-1.0, *(-1.0 if each else 2.0 for each in stay)]])
        monkeypatch.setattr(thresholds.torch, "rand", lambda *shape, draws=draws, **options: draws)
        chance = asked.scores(tokens, Context())[0, 1:]
        probability = torch.where(torch.tensor(stay), chance, 1 - chance).prod()
        model.zero_grad()
        loss = objective(model, batch)
        loss.total.backward()
        got = got + probability.detach() * asked.key.weight.grad
        right = model(picture).argmax() == batch["labels"]
        reward = 1 - (sum(stay) / 4) ** 2 if right else -2.0
        rewards.add(reward)
        model.zero_grad()
        (-0.7 * probability * reward).backward()
        wanted = wanted + asked.key.weight.grad
    assert len(rewards) > 2
    close(got, wanted, 1e-5)


def test_a_threshold_keeps_what_stands_out_and_each_sequence_a_number_of_its_own():
    torch.manual_seed(0)
    part = ef.reduction.Threshold(8, least=1.0)
    given = Tokens(torch.randn(8, 13, 8), prefix=1)
    context = Context(attended=[attended(given.values)])
    scores = part.pruner.scores(given, context)
    fewer = part(given, context)
    for row in range(8):
        above = [j for j in range(1, 13) if scores[row, j] >= scores[row, 1:].mean()]
        assert torch.equal(fewer.values[row][fewer.mask[row]], given.values[row, [0, *above]])
    assert len(set(fewer.mask.sum(1).tolist())) > 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="heads divide the width 16; given 3"):
        ef.spec(ef.reduction.Interpreter, heads=3).build(16)
    with pytest.raises(ef.EveryformerError, match="pruner"):
        ef.spec(ef.reduction.Threshold, pruner=ef.spec(ef.reduction.ToMe)).build(16)
