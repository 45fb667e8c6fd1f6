"""Probabilities of bytes from a model of tokens, against a chain whose every text is counted."""

import itertools
import math

import pytest
import torch

import everyformer as ef
from everyformer.generation import next_byte

START, END = 0, 1
TOKENS = [b"", b"", b"a", b"b", b"aa", b"ab", b"bab"]
FIRST, AFTER, STOP = {"a": 0.3, "b": 0.7}, {"a": {"a": 0.2, "b": 0.8}, "b": {"a": 0.6, "b": 0.4}}, 0.25
LONGEST = 6


def chain(text):
    """The chance of a text of a Markov chain that ends with 1/4 after each byte, and surely after six."""
    chance = FIRST[text[0]]
    for before, after in itertools.pairwise(text):
        chance *= (1 - STOP) * AFTER[before][after]
    return chance * (STOP if len(text) < LONGEST else 1.0)


def encode(text):
    """The longest token that fits, from the left."""
    found, text = [], bytes(text)
    while text:
        best = max((i for i, t in enumerate(TOKENS) if t and text.startswith(t)), key=lambda i: len(TOKENS[i]))
        found.append(best)
        text = text[len(TOKENS[best]) :]
    return found


TEXTS = {"".join(t): chain("".join(t)) for n in range(1, LONGEST + 1) for t in itertools.product("ab", repeat=n)}


class Counted(torch.nn.Module):
    """The exact model of the tokens of the chain: every text encoded, every prefix counted."""

    def __init__(self):
        super().__init__()
        self.mass = {}
        for text, chance in TEXTS.items():
            ids = (START, *encode(text.encode()), END)
            for i in range(1, len(ids) + 1):
                self.mass[ids[:i]] = self.mass.get(ids[:i], 0.0) + chance

    def forward(self, inputs):
        logits = torch.full((1, inputs.shape[1], len(TOKENS)), -torch.inf, dtype=torch.float64)
        for i in range(inputs.shape[1]):
            seen = tuple(inputs[0, : i + 1].tolist())
            for token in range(len(TOKENS)):
                if (*seen, token) in self.mass:
                    logits[0, i, token] = math.log(self.mass[*seen, token] / self.mass[seen])
        return logits


def found(model, text):
    return next_byte(model, text.encode(), tokens=TOKENS, encode=encode, start=START, end=END)


def counted(text):
    """By enumeration of all texts that begin so."""
    mass = {c: sum(p for t, p in TEXTS.items() if t.startswith(text + c)) for c in "ab"}
    mass["end"] = TEXTS.get(text, 0.0)
    return {c: p / sum(mass.values()) for c, p in mass.items()}


@pytest.mark.parametrize("text", ["", "a", "b", "ba", "ab", "aba", "bba", "bab", "aabab"])
def test_equals_the_enumeration_of_all_texts(text):
    chances, wanted = found(Counted(), text), counted(text)
    assert float(chances[ord("a")]) == pytest.approx(wanted["a"], abs=1e-9)
    assert float(chances[ord("b")]) == pytest.approx(wanted["b"], abs=1e-9)
    assert float(chances[256]) == pytest.approx(wanted["end"], abs=1e-9)
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-12)


def test_encoding_first_and_asking_for_a_token_is_biased():
    """After 'ba' no token begins with 'b': 'bab' would have been one."""
    model = Counted()
    logits = model(torch.tensor([[START, *encode(b"ba")]]))[0, -1].exp()
    naive = sum(float(logits[i]) for i, t in enumerate(TOKENS) if t.startswith(b"b"))
    assert counted("ba")["b"] - naive > 0.1


def test_a_model_with_weights_sums_to_one_and_two_make_an_ensemble():
    model = ef.create("gpt", "nano", vocabulary=len(TOKENS), width=16, depth=1, heads=2, seed=0).eval()
    one = found(model, "bab")
    assert float(one.sum()) == pytest.approx(1.0)
    single = next_byte(
        ef.create("gpt", "nano", vocabulary=4, width=16, depth=1, heads=2, seed=1).eval(), b"bab",
        tokens=TOKENS[:4], encode=lambda text: [2 + (c == ord("b")) for c in text], start=START, end=END,
    )  # fmt: skip
    assert float(((one + single) / 2).sum()) == pytest.approx(1.0)
    logits = model(torch.tensor([[START, *encode(b"b")]]))[0].log_softmax(-1)
    assert one[ord("c")] == 0
    assert logits.isfinite().all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.BadInput, match="start is an id of the 7"):
        next_byte(Counted(), b"a", tokens=TOKENS, encode=encode, start=9)
    with pytest.raises(ef.BadInput, match="every byte must be a token"):
        next_byte(Counted(), b"c", tokens=TOKENS[:4], encode=lambda text: [9 for _ in text][:0], start=START)
