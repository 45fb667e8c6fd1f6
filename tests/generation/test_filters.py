"""The filters of logits against those of Hugging Face."""

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import everyformer as ef
from everyformer.errors import EveryformerError
from everyformer.generation import Sample, generate
from everyformer.generation.filters import min_p, repetition, temperature, top_k, top_p

IDS = torch.tensor([[3, 5, 5, 9], [0, 1, 2, 3], [7, 7, 7, 7]])


def logits(seed, spread=3.0):
    return torch.randn(3, 40, generator=torch.Generator().manual_seed(seed)) * spread


CASES = {
    "temperature": (lambda x: temperature(x, 0.7), TemperatureLogitsWarper(0.7)),
    "top_k": (lambda x: top_k(x, 5), TopKLogitsWarper(5)),
    "top_k beyond": (lambda x: top_k(x, 100), TopKLogitsWarper(100)),
    "top_p": (lambda x: top_p(x, 0.8), TopPLogitsWarper(0.8)),
    "top_p small": (lambda x: top_p(x, 0.01), TopPLogitsWarper(0.01)),
    "min_p": (lambda x: min_p(x, 0.1), MinPLogitsWarper(0.1)),
    "min_p one": (lambda x: min_p(x, 1.0), MinPLogitsWarper(1.0)),
    "repetition": (
        lambda x: repetition(x, torch.zeros(x.shape, dtype=torch.bool).scatter(1, IDS, True), 1.3),
        RepetitionPenaltyLogitsProcessor(1.3),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_a_filter_equals_hugging_face(case, seed):
    ours, theirs = CASES[case]
    given = logits(seed)
    torch.testing.assert_close(ours(given.clone()), theirs(IDS, given.clone()), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_filters_together_equal_hugging_face(seed):
    strategy = Sample(temperature=1.4, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.2)
    expected = logits(seed)
    for theirs in (
        RepetitionPenaltyLogitsProcessor(1.2), TemperatureLogitsWarper(1.4), TopKLogitsWarper(20),
        TopPLogitsWarper(0.9), MinPLogitsWarper(0.02),
    ):  # fmt: skip
        expected = theirs(IDS, expected)
    seen = torch.zeros(3, 40, dtype=torch.bool).scatter(1, IDS, True)
    torch.testing.assert_close(strategy.filter(logits(seed), seen), expected, atol=1e-6, rtol=1e-6)
    assert expected.isinf().any()


def test_draws_follow_the_filtered_probabilities():
    strategy = Sample(top_k=4, generator=torch.Generator().manual_seed(0))
    row = logits(5, spread=1.0)[:1]
    drawn = strategy.choose(row.expand(20000, -1), None)
    share = torch.bincount(drawn, minlength=40) / 20000
    assert (share - strategy.filter(row, None).softmax(-1)[0]).abs().max() < 0.015


@pytest.fixture(scope="module")
def model():
    return ef.create("gpt", vocabulary=30, length=64, width=32, depth=2, heads=4, seed=0).eval()


def draw(model, seed, **options):
    strategy = Sample(**options, generator=torch.Generator().manual_seed(seed))
    return generate(model, [[1, 2], [3]], eos=None, pad=0, max_tokens=20, strategy=strategy)


def test_a_generator_alone_decides_the_draws(model):
    assert draw(model, 1) == draw(model, 1) != draw(model, 2)


def test_one_token_left_is_greedy(model):
    greedy = generate(model, [[1, 2], [3]], eos=None, pad=0, max_tokens=20)
    assert draw(model, 1, top_k=1) == draw(model, 1, top_p=1e-6) == draw(model, 1, min_p=1.0) == greedy
    assert draw(model, 1, temperature=1e-4) == greedy


def test_a_large_repetition_penalty_repeats_nothing_of_prompt_or_answer(model):
    for prompt, answer in zip([[1, 2], [3]], draw(model, 0, repetition_penalty=1e9, top_k=1)):
        assert len({*prompt, *answer}) == len(prompt) + len(answer)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_p": 0.0}, {"min_p": 1.5}, {"top_k": 0}, {"repetition_penalty": -1.0}]
)
def test_an_option_out_of_range_is_refused_by_name(options):
    with pytest.raises(EveryformerError, match=next(iter(options))):
        ef.spec(Sample, **options).build()
    with pytest.raises(EveryformerError, match=next(iter(options))):
        Sample(**options)
