"""What every registered strategy keeps."""

import inspect

import pytest
import torch

import everyformer as ef
from everyformer.generation import Strategy, generate
from everyformer.generation.strategies import Single
from everyformer.registry import parts
from everyformer.specs import signature

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
ELSEWHERE = {"Conditional", "Constrained"}
"""Those that need more than a model: a learned chance (`test_conditional.py`), texts of tokens and an end (`test_grammar.py`)."""
STRATEGIES = [name for name, cls in parts("generation").items() if issubclass(cls, Strategy) and name not in ELSEWHERE]


@pytest.fixture(scope="module")
def model():
    made = ef.create("gpt", vocabulary=20, length=32, width=16, depth=1, heads=2, seed=0).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return made


def strategy(name, model):
    """The strategy with its defaults; what draws has a generator of its own."""
    cls = parts("generation")[name]
    options = {}
    if "draft" in signature(cls):
        options["draft"] = ef.create("gpt", vocabulary=20, length=32, width=16, depth=1, heads=2, seed=1)
    if "generator" in signature(cls):
        options["generator"] = torch.Generator().manual_seed(0)
    lacking = {n for n, p in signature(cls).items() if p.default is inspect.Parameter.empty} - set(options)
    assert not lacking
    return cls(**options)


@pytest.mark.parametrize("name", STRATEGIES)
def test_sequences_end_where_they_should(name, model):
    streamed = [[] for _ in PROMPTS]
    found = generate(
        model, PROMPTS, eos=7, pad=0, max_tokens=12, strategy=strategy(name, model),
        stream=lambda row, token: streamed[row].append(token),
    )  # fmt: skip
    assert found == streamed
    assert all(len(answer) <= 12 and 7 not in answer for answer in found)
    assert any(len(answer) == 12 for answer in generate(
        model, PROMPTS, eos=None, pad=0, max_tokens=12, strategy=strategy(name, model)))  # fmt: skip
    every = generate(model, PROMPTS, eos=range(20), pad=0, max_tokens=12, strategy=strategy(name, model))
    assert every == [[], [], [], []]
    one = generate(model, PROMPTS, eos=None, pad=0, max_tokens=1, strategy=strategy(name, model))
    assert [len(answer) for answer in one] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_spec_of_a_strategy_will_do(name, model):
    made = strategy(name, model)
    given = {n: getattr(made, n) for n in ("draft", "generator") if n in signature(type(made))}
    if "generator" in given:
        given["generator"] = torch.Generator().manual_seed(0)
    options = {"eos": 7, "pad": 0, "max_tokens": 8}
    answer = generate(model, PROMPTS, strategy=ef.spec(type(made), **given), **options)
    assert answer == generate(model, PROMPTS, strategy=made, **options)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if issubclass(parts("generation")[name], Single)])
def test_probabilities_are_those_of_the_choices(name, model):
    made = strategy(name, model)
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(0))
    chances = made.probabilities(logits, None)
    assert chances.sum().item() == pytest.approx(1.0, abs=1e-6)
    drawn = torch.bincount(made.choose(logits.expand(20000, -1), None), minlength=20) / 20000
    assert (drawn - chances[0]).abs().max() < 0.015
