"""Texts given a property: the likeliest of those that have it, where all can be listed, and what a trained chance finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.generation import Beam, Conditional, Power, Sample, condition, generate
from everyformer.generation.conditional import Chance, missed
from everyformer.generation.decoding import Decoding
from everyformer.generation.stops import Ends
from everyformer.models.model import Root
from everyformer.tokens import Tokens
from support.agreement import close, perturb

KINDS, MOST = 3, 4
"""Token 0 ends a text; none has more than so many, the end counted."""
Text = tuple[int, ...]
TEXTS = [(*body, 0) for n in range(MOST) for body in itertools.product(range(1, KINDS), repeat=n)]


def contaminated(bad: set[Text], share: float, seed: int = 0) -> dict[Text, float]:
    """A random distribution over all other texts, of which `share` is lost to the bad ones, each as likely."""
    drawn = torch.rand(len(TEXTS), generator=torch.Generator().manual_seed(seed)).double()
    drawn[[text in bad for text in TEXTS]] = 0
    good = (1 - share) * drawn / drawn.sum()
    return {text: share / len(bad) if text in bad else float(p) for text, p in zip(TEXTS, good, strict=True)}


class Listed(Root):
    """A model that says texts with the chances of a list; its state is the text so far, -1 behind it."""

    def __init__(self, chances: dict[Text, float]) -> None:
        super().__init__()
        self.chances = chances

    def states(self, target: Any, context: Context, **fields: Any) -> Tokens:
        rows = [[[*row[1 : n + 1], *[-1] * (MOST + 1 - n)] for n in range(len(row))] for row in target.tolist()]
        return Tokens(torch.tensor(rows).double())

    def speak(self, states: Tokens, context: Context, *, last: bool = False) -> torch.Tensor:
        said = of_next(
            states.values, lambda text: sum(p for each, p in self.chances.items() if each[: len(text)] == text)
        )
        return said[:, -1:] if last else said


class Exact(nn.Module):
    """P(a | prefix, token), counted."""

    def __init__(self, chances: dict[Text, float], holds: Callable[[Text], bool]) -> None:
        super().__init__()
        self.chances, self.holds = chances, holds

    def chance(self, text: Text) -> float:
        goes_on = {each: p for each, p in self.chances.items() if each[: len(text)] == text}
        return sum(p for each, p in goes_on.items() if self.holds(each)) / max(sum(goes_on.values()), 1e-300)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return of_next(states, self.chance)


def of_next(states: torch.Tensor, told: Callable[[Text], float]) -> torch.Tensor:
    """The log of what is told of each text with each next token."""
    read = [[tuple(int(t) for t in place if t >= 0) for place in row] for row in states.tolist()]
    found = [[[told((*text, token)) for token in range(KINDS)] for text in row] for row in read]
    return torch.tensor(found, dtype=torch.float64).log().clamp(min=-1e4)


def said(strategy: Any, chances: dict[Text, float]) -> tuple[Text, float]:
    decoding = Decoding(Listed(chances), Context(), torch.tensor([[0]]))
    best = strategy(decoding, Ends(0, ()), MOST)[0][0]
    return (*best.tokens, 0), best.score


WIDE = ef.spec(Beam, size=40, penalty=ef.spec(Power, exponent=0.0), early=False)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_likeliest_text_that_has_the_property(seed: int) -> None:
    chances = contaminated({(0,)}, 0.3, seed)
    assert max(chances, key=chances.__getitem__) == said(WIDE.build(), chances)[0] == (0,)
    for holds in (lambda text: len(text) > 1, lambda text: text.count(1) == 2, lambda text: len(set(text[:-1])) == 2):
        having = {text: p for text, p in chances.items() if holds(text)}
        best = max(having, key=having.__getitem__)
        text, score = said(Conditional(chance=Exact(chances, holds), strategy=WIDE), chances)
        assert text == best
        assert score == pytest.approx(float(torch.tensor(having[best] / sum(having.values())).log()), abs=1e-5)


def test_the_mode_is_degenerate_as_soon_as_the_noise_is_more_of_each_bad_text_than_of_any_good_one() -> None:
    """With no error of any model: share / |bad| > (1 - share) max p(good) is what decides, and the condition mends it."""
    bad = {(0,), (1, 1, 1, 0), (2, 2, 2, 0)}
    most = max(contaminated(bad, 0.0).values())
    limit = most * len(bad) / (1 + most * len(bad))
    for share, degenerate in ((limit * 0.98, False), (limit * 1.02, True)):
        chances = contaminated(bad, share)
        assert (max(chances, key=chances.__getitem__) in bad) == degenerate
        given = Conditional(chance=Exact(chances, lambda text: text not in bad), strategy=WIDE)
        assert said(given, chances)[0] == max(set(TEXTS) - bad, key=contaminated(bad, 0.0).__getitem__)


def decoder() -> Any:
    made = ef.create("gpt", vocabulary=6, length=16, width=16, depth=1, heads=2, dropout=0.0, seed=0)
    return perturb(made.eval(), seed=1, std=0.4)


PROMPTS = torch.randint(1, 6, (8, 3), generator=torch.Generator().manual_seed(0))


def test_a_trained_chance_leads_to_the_property_and_the_model_stays() -> None:
    model = decoder()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    options = {"eos": 0, "max_tokens": 8}
    chance = condition(model, PROMPTS, lambda text: 3 not in text, **options, samples=8, steps=100)
    plain, given = (
        generate(model, PROMPTS, pad=0, strategy=strategy, **options)
        for strategy in (Sample(generator=torch.Generator().manual_seed(1)), Conditional(chance=chance))
    )
    assert sum(3 not in each for each in given) == 8 > sum(3 not in each for each in plain)
    assert generate(model, PROMPTS, pad=0, strategy=Conditional(chance=chance), cache=False, **options) == given
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_every_token_of_a_sample_tells_of_it() -> None:
    chance, states = perturb(Chance(4, 6), 0, 0.5), torch.randn(2, 3, 4)
    after, had = torch.tensor([[3, 1, 0], [5, 0, -1]]), torch.tensor([True, False])
    told = [chance(states)[0, i, t] for i, t in enumerate((3, 1, 0))]
    other = [(1 - chance(states)[1, i, t].exp()).log() for i, t in enumerate((5, 0))]
    close(missed(chance, states, after, had), -torch.stack(told + other).mean())


def test_what_does_not_fit_is_told() -> None:
    options = {"eos": 0, "max_tokens": 4}
    with pytest.raises(ef.BadInput, match="1 sample or more"):
        condition(decoder(), PROMPTS, len, **options, samples=0)
    with pytest.raises(ef.BadInput, match="of 64 samples 64 have the property"):
        condition(decoder(), PROMPTS, lambda text: True, **options)
