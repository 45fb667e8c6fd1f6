"""Constrained decoding: against all strings of a small alphabet, and JSON that Python's own parser takes."""

import itertools
import json
import re
import sys

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import JSON, Beam, Constrained, Greedy, Jacobi, Sample, generate
from everyformer.generation.grammar import Pattern
from support.agreement import perturb

PIECES = ("", "a", "b", "ab", "c")
END = 0
OPTIONS = {"eos": END, "pad": END, "max_tokens": 6}
PROMPTS = [[1, 2, 3], [4, 1], [2]]


def model(vocabulary):
    return perturb(
        ef.create("llama", vocabulary=vocabulary, width=32, hidden=48, depth=1, heads=2, seed=0), seed=3, std=0.5
    )


@pytest.mark.parametrize("pattern", ["a*b", "(ab|c)+", "a{2,3}c?", "(?:b(?:ac)*)?"])
def test_allowed_tokens_are_those_that_some_match_goes_on_with(pattern):
    rule, strings = Pattern(pattern, PIECES), ["".join(s) for n in range(9) for s in itertools.product("abc", repeat=n)]
    matching = [each for each in strings if re.fullmatch(pattern, each)]
    for text in (each for each in strings if len(each) < 5):
        assert rule.begins(text) == any(each.startswith(text) for each in matching)
        assert rule.whole(text) == (text in matching)
        if rule.begins(text):
            wanted = [i for i, p in enumerate(PIECES) if p and any(each.startswith(text + p) for each in matching)]
            assert rule.after(text) == wanted


@torch.no_grad()
def literal(made, prompt, pattern):
    """Greedy decoding in which each token is tried with every string that may follow."""
    matching = [
        s for n in range(9) for s in map("".join, itertools.product("abc", repeat=n)) if re.fullmatch(pattern, s)
    ]
    said, text = [], ""
    while len(said) < OPTIONS["max_tokens"]:
        logits = made(torch.tensor([prompt + said]))[0, -1]
        best = [
            t for t in logits.argsort(descending=True).tolist()
            if (text in matching if t == END else any(s.startswith(text + PIECES[t]) for s in matching))
        ]  # fmt: skip
        if best[0] == END:
            break
        said.append(best[0])
        text += PIECES[best[0]]
    return said


@pytest.mark.parametrize("pattern", ["a*b", "(?:ab|c){1,4}", "a{2,3}c?"])
def test_answers_are_those_of_the_allowed_tokens_alone(pattern):
    made = model(len(PIECES))
    wanted = [literal(made, each, pattern) for each in PROMPTS]
    for strategy in (ef.spec(Greedy), ef.spec(Jacobi), ef.spec(Beam, size=1)):
        chosen = Constrained(pattern=pattern, pieces=PIECES, strategy=strategy)
        assert generate(made, PROMPTS, strategy=chosen, **OPTIONS) == wanted
    assert generate(made, PROMPTS, **OPTIONS) != wanted


@pytest.mark.parametrize("strategy", [Greedy, Jacobi])
def test_without_an_end_token_an_answer_ends_with_its_first_match(strategy):
    chosen = Constrained(pattern="(?:ab|c){2,4}", pieces=PIECES, strategy=ef.spec(strategy))
    said = generate(model(len(PIECES)), PROMPTS, eos=None, pad=END, max_tokens=6, strategy=chosen)
    for answer in said:
        assert re.fullmatch("(?:ab|c){2}", "".join(PIECES[token] for token in answer))


def test_json_is_json():
    characters = '{}[]:,"0123456789.-eE+truefalsn\\ xyz'
    pieces = ("", *sorted({*characters}), '":', "true", '{"')
    chosen = Constrained(
        pattern=JSON, pieces=pieces, strategy=ef.spec(Sample, generator=torch.Generator().manual_seed(1))
    )
    made = model(len(pieces))
    with torch.no_grad():
        made.head.project.weight.mul_(0.2)
    said = generate(made, [[1]] * 40, eos=0, pad=0, max_tokens=60, strategy=chosen)
    texts = ["".join(pieces[token] for token in each) for each in said if len(each) < 60]
    assert len(texts) > 10
    assert any(len(text) > 8 for text in texts)
    for text in texts:
        json.loads(text)
    rule = Pattern(JSON, pieces)
    for text in ('{"a": [1, 2.5e-3, {"b": null}], "c": "\\u00e9"}', "[]", "-0.1", '"x"'):
        assert rule.whole(text)
        assert all(rule.begins(text[:i]) for i in range(len(text)))
    for text in ("01", "{,", "[1,]", '{"a" "b"', "nul!", "+1"):
        assert not rule.whole(text)


def test_what_cannot_be_is_refused(monkeypatch):
    made = model(len(PIECES))
    with pytest.raises(BadInput, match="is no regular expression"):
        Constrained(pattern="(a", pieces=PIECES)
    with pytest.raises(DoesNotFit, match="5 pieces for 6 tokens"):
        generate(model(6), PROMPTS, strategy=Constrained(pattern="a", pieces=PIECES), **OPTIONS)
    with pytest.raises(DoesNotFit, match="no token goes on from 'a'"):
        generate(made, PROMPTS, strategy=Constrained(pattern="ax", pieces=PIECES), **OPTIONS)
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(BadInput, match="everyformer\\[grammar\\]"):
        Constrained(pattern="a", pieces=PIECES)
