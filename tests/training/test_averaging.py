"""Means of weights against literal ones."""

from __future__ import annotations

import torch
from torch import nn

import everyformer as ef
from everyformer.training.averaging import Exponential, LastMeans, copy_of, holding, weights


def test_exponential_mean() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Exponential(model, 0.5)
    expected = copy_of(model)
    for step in range(12):
        model(torch.randn(4, 2))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        average.after_step(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, now in weights(model).items():
            expected[name] = decay * expected[name] + (1 - decay) * now if now.is_floating_point() else now.clone()
    for name, value in average.at_evaluation(model, 12).items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert int(expected["1.num_batches_tracked"]) == 12


def test_mean_of_the_last_evaluations() -> None:
    model = nn.Linear(3, 2)
    average = LastMeans(model, 3)
    history = []
    for step in (5, 10, 15, 20, 25):
        with torch.no_grad():
            model.weight.normal_()
        history.append(model.weight.detach().clone())
        mean = average.at_evaluation(model, step)["weight"]
        torch.testing.assert_close(mean, torch.stack(history[-3:]).mean(0))
    other = LastMeans(model, 3)
    other.load(average.state())
    assert torch.equal(other.at_evaluation(model, 30)["weight"], average.at_evaluation(model, 30)["weight"])


def test_holding_gives_the_weights_back() -> None:
    model = nn.Linear(3, 2)
    own = copy_of(model)
    with holding(model, {name: torch.zeros_like(value) for name, value in own.items()}):
        assert not model.weight.any()
    assert all(torch.equal(weights(model)[name], own[name]) for name in own)


def test_tied_weights_are_there_once() -> None:
    model = ef.create("gpt", vocabulary=5, length=4, width=8, depth=1, heads=2, seed=0)
    assert model.head.project.weight is model.embedding.table.weight
    assert [name for name in weights(model) if name in ("head.project.weight", "embedding.table.weight")] == [
        "embedding.table.weight"
    ]
