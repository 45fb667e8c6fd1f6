"""Targets written in parallel: the halves begin as a masked language model, and decoding is as the paper's algorithm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.generation import mask_predict
from everyformer.models import parallel_seq2seq
from everyformer.objectives import MaskedTarget
from everyformer.objectives.targets import drawn
from support.agreement import close, perturb

HIDDEN = 4
SOURCES = torch.randint(5, 19, (2, 7), generator=torch.Generator().manual_seed(0))


def masked() -> Any:
    shape = {"vocabulary": 19, "width": 16, "depth": 2, "heads": 2, "length": 12, "segments": 0, "dropout": 0.0}
    return perturb(ef.create("bert", **shape, attention_dropout=0.0, seed=0), seed=1, std=0.3)


@pytest.fixture(scope="module")
def model() -> Any:
    return perturb(parallel_seq2seq(masked(), longest=8, seed=2), seed=3, std=0.3)


def test_both_halves_begin_as_the_masked_language_model() -> None:
    bert, made = masked(), parallel_seq2seq(masked(), longest=8, seed=2).eval()
    with torch.no_grad():
        for block in made.decoder.blocks:
            block.cross[0].output.weight.zero_()
            block.cross[0].output.bias.zero_()
            block.residual[1].norm = torch.nn.Identity()
    target = SOURCES[:, :5]
    context = made.prepare(SOURCES)
    close(context.memory["encoder"].values, bert.features(SOURCES).values)
    close(made(SOURCES, target), bert(target))


def alone(model: Any, source: torch.Tensor, count: int, steps: int) -> tuple[list[int], float]:
    """Section 3.1 for one source and one length."""
    y, p = [HIDDEN] * count, [0.0] * count
    for t in range(steps):
        n = count * (steps - t) // steps
        again = sorted(range(count), key=lambda i: p[i])[:n]
        given = [HIDDEN if i in again else y[i] for i in range(count)]
        logits = model(source[None], torch.tensor([given]))[0]
        logits[:, HIDDEN] = -float("inf")
        for i in again:
            y[i], p[i] = int(logits[i].argmax()), float(logits[i].softmax(-1).max())
    return y, sum(torch.tensor(p).log().tolist()) / count


@pytest.mark.parametrize("steps", [1, 3])
@torch.no_grad()
def test_targets_are_written_as_in_the_paper(model: Any, steps: int) -> None:
    wanted = []
    for source in SOURCES:
        likely = model.lengths(model.prepare(source[None]).memory["encoder"])[0, 1:]
        tries = [alone(model, source, int(each) + 1, steps) for each in likely.topk(3).indices]
        wanted.append(max(tries, key=lambda each: each[1])[0])
    assert mask_predict(model, SOURCES, hidden=HIDDEN, steps=steps, tries=3) == wanted
    given = mask_predict(model, SOURCES, hidden=HIDDEN, steps=steps, counts=torch.tensor([[5], [3]]))
    assert given == [alone(model, SOURCES[0], 5, steps)[0], alone(model, SOURCES[1], 3, steps)[0]]


def test_the_loss_is_that_of_hidden_tokens_and_of_the_length(model: Any) -> None:
    labels = torch.tensor([[5, 6, 7, 8], [9, 10, -100, -100]])
    noise = torch.tensor([[0.6, 0.3, 0.9, 0.1, 0.2], [0.0, 0.8, 0.5, 0.1, 0.2]])
    hidden = torch.tensor([[True, False, True, True], [False, True, False, False]])
    assert torch.equal(drawn(labels != -100, noise), hidden)
    first = model(SOURCES[:1], torch.tensor([[HIDDEN, 6, HIDDEN, HIDDEN]]))[0]
    second = model(SOURCES[1:], torch.tensor([[9, HIDDEN]]))[0]
    told = [model.counts(model.prepare(each[None])) for each in SOURCES]
    wanted = F.cross_entropy(first[[0, 2, 3]], labels[0, [0, 2, 3]], reduction="sum") + 0.1 * 3 * F.cross_entropy(
        told[0], torch.tensor([4])
    )
    wanted = wanted + F.cross_entropy(second[1:], labels[1, 1:2]) + 0.1 * F.cross_entropy(told[1], torch.tensor([2]))
    loss = MaskedTarget(hidden=HIDDEN)(model, {"inputs": SOURCES, "labels": labels, "noise": noise})
    close(loss.total, wanted)
    assert int(loss.count) == 4


def test_any_number_of_tokens_is_hidden_as_often() -> None:
    noise = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    numbers = drawn(torch.ones(4000, 4, dtype=torch.bool), noise).sum(1).bincount()
    assert numbers[0] == 0
    assert (numbers[1:] / 1000 - 1).abs().max() < 0.1


def test_what_does_not_fit_is_told(model: Any) -> None:
    batch = {"inputs": SOURCES, "labels": torch.full((2, 9), 5)}
    with pytest.raises(ef.BadInput, match="has 9 tokens, and the model tells of 8"):
        MaskedTarget(hidden=HIDDEN)(model, batch)
    with pytest.raises(ef.DoesNotFit, match="use models.ParallelSeq2Seq"):
        MaskedTarget(hidden=HIDDEN)(ef.models.bert2bert(masked()), batch)
    with pytest.raises(ef.BadInput, match="at least 0"):
        MaskedTarget(hidden=HIDDEN, share=-1)
    with pytest.raises(ef.BadInput, match="at least 1 step"):
        mask_predict(model, SOURCES, hidden=HIDDEN, steps=0)
