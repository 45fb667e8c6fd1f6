"""Promise 19: an error names the mistake: the value, the limit, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.objectives import Classification, Forecast, NextToken, SequenceToSequence
from support.rooms import example
from support.systems import causal, model_of, systems, takes, tiny


def gpt() -> Any:
    return model_of(tiny("gpt"))


def ids(*values: int) -> torch.Tensor:
    return torch.tensor([values])


def bert() -> Any:
    return model_of(tiny("bert"))


def transformer() -> Any:
    return model_of(tiny("transformer"))


def vit() -> Any:
    return model_of(tiny("vit"))


LONG = torch.zeros(1, 17, dtype=torch.long)
FOUR = ids(1, 2, 3, 4)
REAL = torch.ones(1, 4, dtype=torch.bool)
MISTAKES: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("id too large", lambda: gpt()(ids(1, 60)), ["token id 60", "vocabulary has 20 (0 to 19)", "larger vocabulary"]),
    ("id below zero", lambda: gpt()(ids(-1, 2)), ["token id -1", "vocabulary has 20"]),
    ("target id", lambda: transformer()(FOUR, ids(20)), ["token id 20", "vocabulary has 20"]),
    ("ids that are no integers", lambda: gpt()(torch.rand(1, 4)), ["integers", "torch.float32"]),
    ("ids of one dimension", lambda: gpt()(torch.tensor([1, 2])), ["(batch, tokens)", "(2,)"]),
    ("too long", lambda: gpt()(LONG), ["17 tokens", "learned positions for 16", "length=17"]),
    ("too long, padded", lambda: gpt()(LONG, mask=torch.ones(1, 17).bool()), ["17 tokens", "for 16"]),
    ("too long, packed", lambda: gpt()(LONG, lengths=torch.tensor([17])), ["17 tokens", "for 16"]),
    ("segment", lambda: bert()(FOUR, segments=ids(0, 0, 1, 2)), ["segment 2", "has 2", "segments="]),
    ("mask of another shape", lambda: gpt()(FOUR, mask=torch.ones(1, 3).bool()), ["mask", "(1, 3)", "(1, 4)"]),
    (
        "mask of numbers",
        lambda: gpt()(FOUR, mask=torch.ones(1, 4)),
        ["mask", "True where a token is real", "torch.float32"],
    ),
    ("lengths", lambda: gpt()(FOUR, lengths=torch.tensor([2, 3])), ["lengths", "5", "4"]),
    ("lengths of a batch", lambda: gpt()(FOUR.expand(2, -1), lengths=torch.tensor([4, 4])), ["packed", "(2, 4)"]),
    ("mask and lengths", lambda: gpt()(FOUR, mask=REAL, lengths=torch.tensor([4])), ["mask", "lengths"]),
    ("channels", lambda: vit()(torch.zeros(2, 1, 16, 16)), ["(B, 3, height, width)", "(2, 1, 16, 16)", "channels=1"]),
    ("one picture", lambda: vit()(torch.zeros(3, 16, 16)), ["(B, 3, height, width)", "(3, 16, 16)"]),
    ("bytes of pictures", lambda: vit()(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)), ["uint8", "float"]),
    ("steps", lambda: model_of(tiny("itransformer"))(torch.zeros(2, 11, 3)), ["(B, 12, variates)", "(2, 11, 3)"]),
    ("mel bins", lambda: model_of(tiny("ast"))(torch.zeros(2, 20, 13)), ["(B, frames, 12)", "mels=13"]),
    ("an option of forward", lambda: gpt()(FOUR, attention_mask=REAL), ["attention_mask", "mask"]),
    (
        "label",
        lambda: Classification()(vit(), {"inputs": torch.zeros(2, 3, 16, 16), "labels": torch.tensor([0, 3])}),
        ["label 3", "3 classes (0 to 2)", "more classes"],
    ),
    (
        "label below zero",
        lambda: Classification()(vit(), {"inputs": torch.zeros(2, 3, 16, 16), "labels": torch.tensor([0, -1])}),
        ["label -1", "3 classes"],
    ),
    (
        "next token",
        lambda: NextToken()(gpt(), {"inputs": FOUR, "labels": ids(1, 2, 3, 20)}),
        ["20", "0 to 19"],
    ),
    (
        "target label",
        lambda: SequenceToSequence()(transformer(), {"inputs": FOUR, "target": FOUR, "labels": ids(1, 2, 3, 99)}),
        ["99", "0 to 19"],
    ),
    (
        "horizon",
        lambda: Forecast()(
            model_of(tiny("itransformer")), {"inputs": torch.zeros(2, 12, 3), "labels": torch.zeros(2, 5, 3)}
        ),
        ["(2, 5, 3)", "(2, 4, 3)"],
    ),
    (
        "no memory",
        lambda: ef.mixers.CrossAttention(32)(ef.Tokens(torch.zeros(1, 2, 32))),
        ["reads the memory 'encoder'", "Context(memory="],
    ),
    (
        "no condition",
        lambda: ef.norms.AdaptivePreNorm(32)(ef.Tokens(torch.zeros(1, 2, 32)), lambda t: t.values, ef.Context()),
        ["needs a condition", "Context(condition="],
    ),
    (
        "no grid",
        lambda: ef.positions.LearnedGrid(32)(ef.Tokens(torch.zeros(1, 2, 32))),
        ["needs tokens on a grid", "use Learned"],
    ),
]


@pytest.mark.parametrize(("what", "act", "said"), MISTAKES, ids=[what for what, _, _ in MISTAKES])
def test_a_mistake_is_named(what: str, act: Callable[[], Any], said: list[str]) -> None:
    with pytest.raises(ef.EveryformerError) as error:
        act()
    missing = [part for part in said if part not in str(error.value)]
    assert not missing, f"{missing} not in: {error.value}"


@pytest.mark.parametrize("name", systems())
def test_every_system_names_inputs_of_a_wrong_shape(name: str) -> None:
    model = model_of(tiny(name))
    batch = example(model, 2)
    with pytest.raises(ef.EveryformerError, match=r"\("):
        model(**{**batch, "inputs": batch["inputs"][0]})


def test_a_prompt_too_long_is_named_while_it_grows() -> None:
    model, context = gpt(), ef.Context(cache=ef.Cache())
    with torch.no_grad():
        model(LONG[:, :16], context=context)
        with pytest.raises(ef.BadInput, match="17 tokens, and learned positions for 16"):
            model(ids(1), context=context)


def test_more_in_a_pack_than_the_positions_have_is_no_mistake() -> None:
    model = gpt()
    assert model(torch.zeros(1, 30, dtype=torch.long), lengths=torch.tensor([15, 15])).shape == (1, 30, 20)
    mask = torch.arange(20)[None] >= 10
    assert model(torch.zeros(1, 20, dtype=torch.long), mask=mask).shape == (1, 20, 20)
    assert causal(tiny("gpt"))
    assert takes(model, "lengths")
