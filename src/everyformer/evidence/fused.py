"""Evidence for a reader of several passages: which of four news has a topic, and a key in one passage to another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

import everyformer as ef
from everyformer.data.padding import pad_right
from everyformer.data.tasks.texts import TextClassification
from everyformer.data.vocabulary import PAD
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.heads import spans
from everyformer.models import Xavier
from everyformer.objectives import MarginalSpans
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.recipe import load_recipe

SHAPE = {
    "width": 64,
    "hidden": 128,
    "depth": 2,
    "heads": 4,
    "passages": 4,
    "longest": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
MARK, WORDS = 1, 6
"""The id in front of a passage, and the first that is a word: between stand four topics or keys."""
_TOKENS = 2000
"""The vocabulary of news."""
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


def labelled(inputs: Tensor, passage: Tensor, place: Tensor) -> Tensor:
    """Labels of the spans of passages whose answer is the one token at a place."""
    labels = torch.where(spans(inputs, SHAPE["longest"]), 0, IGNORED)
    labels[torch.arange(len(inputs)), passage, place, 0] = 1
    return labels


def read(draw: Draw, held_out: Draw, steps: int, **options: int) -> float:
    """The share of fresh questions whose likeliest span is the answer, after some steps of 32."""
    # A reader so narrow hardly learns from BERT's 0.02.
    model = ef.design("fie", **{**SHAPE, **options}).set("start", ef.spec(Xavier)).build(seed=0)
    generator, objective = torch.Generator().manual_seed(0), MarginalSpans()

    def batch(step: int) -> dict[str, Tensor]:
        inputs, labels = draw(32, generator)
        return {"inputs": inputs, LABELS: labels}

    learn(model, objective, batch, steps, lr=2e-3, rate=warmed(50))
    inputs, labels = held_out(512, torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores = model(inputs).masked_fill(labels == IGNORED, -torch.inf)
    best = scores.flatten(1).argmax(1, keepdim=True)
    return (labels.flatten(1).gather(1, best) == 1).float().mean().item()


@cache
def _news() -> TextClassification:
    """AG News, of 32 tokens each."""
    return TextClassification.open(**{**load_recipe("ag_news").data, "vocabulary": _TOKENS, "length": 32})


def of_topics(split: str) -> Draw:
    """Four news, one of each topic, behind a topic: the answer is the mark of the one that is of it."""
    task = _news()
    classes = np.array(task.parts[split][1])
    ids, mask = pad_right(task.parts[split][0], PAD)
    ids = (ids + WORDS).masked_fill(~mask, PAD)
    rows = [ids[torch.from_numpy(classes == topic)] for topic in range(4)]

    def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        news = torch.stack([each[torch.randint(len(each), (count,), generator=generator)] for each in rows], 1)
        order = torch.rand(count, 4, generator=generator).argsort(1)
        topic = torch.randint(4, (count, 1), generator=generator)
        news = news.gather(1, order[..., None].expand_as(news))
        front = torch.stack((torch.full_like(order, MARK), (topic + 2).expand_as(order)), -1)
        inputs = torch.cat((front, news), 2)
        where = (order == topic).int().argmax(1)
        return inputs, labelled(inputs, where, torch.zeros_like(where))

    return draw


def keyed(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two passages: a key among noise, and four words, of which the key says which one is asked for."""
    inputs = torch.randint(WORDS, 32, (count, 2, 5), generator=generator)
    inputs[:, :, 0] = MARK
    key = torch.randint(4, (count,), generator=generator)
    inputs[:, 0, 1] = key + 2
    return inputs, labelled(inputs, torch.ones_like(key), key + 1)


@evidence("fie", kind="learns", claim="It finds the one of four news that is of a topic far above chance.")
def fie_learns() -> Finding:
    """AG News, 2,000 steps at width 64; chance is a quarter."""
    ours = read(of_topics("train"), of_topics("test"), 2000, vocabulary=_TOKENS + WORDS, length=34, shared=4)
    return Finding(verdict(ours > 0.5), f"{ours:.3f} against 0.25", {"fie": ours, "chance": 0.25})


@evidence(
    "fie", kind="claim", claim="Shared tokens let the answer in one passage depend on what another says (abstract)."
)
def fie_fuses() -> Finding:
    """A key in one passage says which word of the other is asked for; with four shared tokens, and with none."""
    figures = {str(shared): read(keyed, keyed, 800, vocabulary=32, length=5, shared=shared) for shared in (4, 0)}
    held = figures["4"] > 0.9 and figures["0"] < 0.35
    finding = f"answered {figures['4']:.0%} with shared tokens, {figures['0']:.0%} without (chance 25%)"
    return Finding(verdict(held), finding, figures)
