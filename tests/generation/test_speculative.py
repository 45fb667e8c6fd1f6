"""Speculative decoding gives what its model gives alone, in fewer passes."""

import itertools
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import Greedy, Sample, Speculative, generate

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": None, "pad": 0, "max_tokens": 15}


def lively(model, seed=3, scale=0.7):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def small(seed, vocabulary=40, **options):
    shape = {"length": 32, "width": 16, "depth": 1, "heads": 2, **options}
    return lively(ef.create("gpt", vocabulary=vocabulary, **shape, seed=0), seed)


def nearly(model, noise):
    """A draft that often agrees."""
    draft = ef.design("gpt", vocabulary=40, length=32, width=16, depth=1, heads=2).build()
    draft.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * noise)
    return draft.eval()


class Passes:
    def __init__(self, module):
        self.count = 0
        self.handle = module.register_forward_pre_hook(self.add)

    def add(self, *_):
        self.count += 1


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("ahead", [1, 3, 20])
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_greedy_guesses_change_nothing(ahead, noise, cache):
    model = small(3)
    plain = generate(model, PROMPTS, **OPTIONS)
    strategy = Speculative(draft=nearly(model, noise), ahead=ahead)
    assert generate(model, PROMPTS, strategy=strategy, cache=cache, **OPTIONS) == plain
    eos = plain[1][6]
    options = {**OPTIONS, "eos": eos, "stop": [plain[2][3:5]]}
    assert generate(model, PROMPTS, strategy=strategy, cache=cache, **options) == generate(model, PROMPTS, **options)


def test_good_guesses_save_passes():
    model = small(3)
    plain = generate(model, PROMPTS[:1], **OPTIONS)
    for noise, most in ((0.0, 4), (0.05, 12)):
        passes = Passes(model.backbone)
        assert (
            generate(model, PROMPTS[:1], strategy=Speculative(draft=nearly(model, noise), ahead=4), **OPTIONS) == plain
        )
        passes.handle.remove()
        assert passes.count <= most


def test_a_translation_is_guessed_by_a_language_model():
    model = lively(ef.create("transformer", "tiny", vocabulary=40, width=32, hidden=64, depth=1, seed=0))
    strategy = Speculative(draft=small(5), ahead=3)
    options = {**OPTIONS, "bos": 1}
    assert generate(model, PROMPTS, strategy=strategy, **options) == generate(model, PROMPTS, **options)


def test_streamed_tokens_are_the_answer():
    model, streamed = small(3), [[] for _ in PROMPTS]
    strategy = Speculative(draft=nearly(model, 0.1), ahead=3)
    found = generate(model, PROMPTS, strategy=strategy, stream=lambda row, t: streamed[row].append(t), **OPTIONS)
    assert streamed == found


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 3, "repetition_penalty": 1.5}])
def test_the_distribution_is_that_of_the_model_alone(options):
    model, draft = small(3, vocabulary=4, width=8), small(4, vocabulary=4, width=8)
    sample = Sample(**options)
    expected = {}
    with torch.no_grad():
        for tokens in itertools.product(range(4), repeat=3):
            chance, seen = 1.0, torch.zeros(1, 4, dtype=torch.bool)
            seen[0, 1] = True
            for i, token in enumerate(tokens):
                logits = model(torch.tensor([[1, *tokens[:i]]]))[:, -1]
                chance *= float(sample.probabilities(logits, seen if sample.remembers else None)[0, token])
                seen[0, token] = True
            expected[tokens] = chance
    count = 8000

    def likely(which, strategy):
        """The p of Pearson's chi-square test of answers against the model's own distribution; rare ones count together."""
        found = Counter(map(tuple, generate(which, [[1]] * count, eos=None, pad=0, max_tokens=3, strategy=strategy)))
        common = [tokens for tokens, chance in expected.items() if chance * count >= 5]
        seen, wanted = [found[tokens] for tokens in common], [expected[tokens] * count for tokens in common]
        assert all(expected[tokens] > 0 for tokens in found), "an answer that the model never gives"
        rest = count - sum(wanted)
        if rest > 1e-6 * count:
            seen, wanted = [*seen, count - sum(seen)], [*wanted, rest]
        return chisquare(seen, [each * sum(seen) / sum(wanted) for each in wanted]).pvalue

    def choice(seed):
        return ef.spec(Sample, **options, generator=torch.Generator().manual_seed(seed))

    assert likely(model, Speculative(draft=draft, ahead=2, choice=choice(0))) > 0.01
    assert likely(model, choice(1)) > 0.01, "the bound itself would not hold for plain sampling"
    if not options:
        assert likely(draft, choice(1)) < 1e-9, "the draft alone would do"


def test_what_cannot_be_is_refused():
    model = small(3)
    with pytest.raises(BadInput, match="ahead is 0"):
        Speculative(draft=model, ahead=0)
    with pytest.raises(DoesNotFit, match="a draft of 41 tokens for a model of 40"):
        generate(model, PROMPTS, strategy=Speculative(draft=small(1, vocabulary=41)), **OPTIONS)
    assert isinstance(Speculative(draft=model).choice, Greedy)
