"""Greedy and beam search against a brute-force search and against Hugging Face."""

import itertools

import pytest
import torch

import everyformer as ef
from everyformer.generation import GNMT, Beam, Greedy, Power, generate
from everyformer.generation.generate import hypotheses


@pytest.fixture(scope="module")
def decoder():
    model = ef.create("gpt", vocabulary=50, length=64, width=32, depth=2, heads=4, seed=0).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


@pytest.fixture(scope="module")
def translator():
    model = ef.create("transformer", "tiny", vocabulary=50, width=32, hidden=64, depth=2, seed=0).eval()
    for parameter in model.parameters():
        parameter.data.mul_(1.6)
    return model


def brute_force(model, prompt, eos, max_tokens, vocabulary, penalty):
    """Every sequence that ends with `eos` or has `max_tokens` tokens, each scored in one pass."""
    best = {}
    others = [t for t in range(vocabulary) if t != eos]
    for length in range(1, max_tokens + 1):
        for body in itertools.product(others, repeat=length - 1):
            for last in range(vocabulary) if length == max_tokens else [eos]:
                tokens = [*body, last]
                logp = model(torch.tensor([prompt + tokens]))[0].log_softmax(-1)
                total = sum(float(logp[len(prompt) - 1 + i, t]) for i, t in enumerate(tokens))
                best[tuple(t for t in tokens if t != eos), last == eos] = total / penalty(length)
    return sorted(best.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("penalty", [ef.spec(Power, exponent=0.0), ef.spec(Power), ef.spec(GNMT, alpha=0.8)])
@torch.no_grad()
def test_a_wide_beam_finds_the_best_of_all_sequences(penalty):
    for seed in range(3):
        model = ef.create("gpt", vocabulary=4, length=16, width=16, depth=1, heads=2, seed=seed).eval()
        for parameter in model.parameters():
            parameter.data.mul_(8)
        expected = brute_force(model, [1, 2], 0, 4, 4, penalty.build())
        beam = Beam(size=4**4, penalty=penalty, early=False)
        found = hypotheses(model, [[1, 2]], eos=0, pad=0, max_tokens=4, strategy=beam)[0]
        assert len(found) == len(expected)
        for hypothesis, (_, score) in zip(found, expected):
            assert hypothesis.score == pytest.approx(score, abs=1e-4)
        assert tuple(found[0].tokens) == expected[0][0][0]


def test_a_beam_of_one_is_greedy(decoder):
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]
    options = {"eos": 36, "pad": 0, "max_tokens": 12}
    assert generate(decoder, prompts, strategy=Beam(size=1), **options) == generate(decoder, prompts, **options)


@pytest.mark.parametrize(
    "strategy", [Greedy(), Beam(size=3), Beam(size=4, early=False, penalty=ef.spec(Power, exponent=0.9))]
)
@pytest.mark.parametrize("kind", ["decoder", "translator"])
def test_alone_as_in_any_batch_and_cached_as_uncached(kind, strategy, request):
    model = request.getfixturevalue(kind)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
    options = {"bos": 1, "eos": (33, 36), "pad": 0, "max_tokens": 12, "strategy": strategy}
    alone = [generate(model, [p], **options)[0] for p in prompts]
    assert len({len(a) for a in alone}) > 1, "the sequences should end at different times"
    assert generate(model, prompts, **options) == alone
    assert generate(model, prompts[::-1], **options) == alone[::-1]
    assert generate(model, prompts, cache=False, **options) == alone
    for side in ("left", "right"):
        ids, mask = torch.zeros(4, 7, dtype=torch.long), torch.zeros(4, 7, dtype=torch.bool)
        for i, p in enumerate(prompts):
            where = slice(7 - len(p), 7) if side == "left" else slice(len(p))
            ids[i, where], mask[i, where] = torch.tensor(p), True
        assert generate(model, ids, mask=mask, **options) == alone
    packed, lengths = torch.tensor([[t for p in prompts for t in p]]), torch.tensor([len(p) for p in prompts])
    assert generate(model, packed, lengths=lengths, **options) == alone
