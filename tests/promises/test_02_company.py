"""Promise 2: a sample's result does not depend on its company."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from support.parts import close
from support.rooms import example, vocabulary_of
from support.systems import entrance, idle, model_of, options_of, systems, takes, tiny

LENGTHS = (7, 3, 5, 1)
TARGETS = (2, 6, 4, 3)


def sequences(vocabulary: int, lengths: tuple[int, ...], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocabulary, (length,), generator=generator) for length in lengths]


def padded(rows: list[torch.Tensor], side: str, extra: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences in one tensor, with other tokens in the padding, and their mask."""
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), 5)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        start = {"right": 0, "left": width - len(row), "both": 1}[side]
        ids[i, start : start + len(row)] = row
        mask[i, start : start + len(row)] = True
    return ids, mask


def per_sample(answer: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor) -> list[torch.Tensor]:
    """The answer to each sequence: of its real tokens, or the one for all of it."""
    by_token = answer.dim() == 3 and answer.shape[:2] == ids.shape
    return [each[real] if by_token else each for each, real in zip(answer, mask, strict=True)]


def answers(model: Any, form: str) -> list[torch.Tensor]:
    """What the model says to each sequence, given to it in some form."""
    rows = sequences(vocabulary_of(model), LENGTHS, 1)
    if hasattr(model, "decode") and hasattr(model, "source"):
        return paired(model, form, rows, sequences(vocabulary_of(model), TARGETS, 2))
    if form == "alone":
        found = [model(row[None])[0] for row in rows]
        return found
    if form == "packed":
        answer = model(torch.cat(rows)[None], lengths=torch.tensor(LENGTHS))
        return list(answer[0].split(LENGTHS)) if answer.dim() == 3 else list(answer)
    if form == "reversed":
        ids, mask = padded(rows[::-1], "right")
        return per_sample(model(ids, mask=mask), mask, ids)[::-1]
    ids, mask = padded(rows, form)
    return per_sample(model(ids, mask=mask), mask, ids)


def paired(model: Any, form: str, rows: list[torch.Tensor], targets: list[torch.Tensor]) -> list[torch.Tensor]:
    if form == "alone":
        return [model(row[None], target[None])[0] for row, target in zip(rows, targets, strict=True)]
    if form == "packed":
        answer = model(
            torch.cat(rows)[None], torch.cat(targets)[None],
            lengths=torch.tensor(LENGTHS), target_lengths=torch.tensor(TARGETS),
        )  # fmt: skip
        return list(answer[0].split(TARGETS))
    if form == "reversed":
        return paired_rows(model, rows[::-1], targets[::-1], "right")[::-1]
    return paired_rows(model, rows, targets, form)


def paired_rows(model: Any, rows: list[torch.Tensor], targets: list[torch.Tensor], side: str) -> list[torch.Tensor]:
    (ids, mask), (into, target_mask) = padded(rows, side), padded(targets, side)
    return per_sample(model(ids, into, mask=mask, target_mask=target_mask), target_mask, into)


def texts(name: str) -> set[str]:
    """What says that a system takes ragged texts: the fields of its embedding and its options."""
    model = tiny(name).build(device="meta")
    embedding = entrance(model)
    return set(inspect.signature(embedding.forward).parameters) | options_of(embedding.spec)


RAGGED = [name for name in systems() if {"mask", "vocabulary"} <= texts(name)]


@pytest.mark.parametrize("form", ["right", "left", "both", "reversed", "packed"])
@pytest.mark.parametrize("name", RAGGED)
def test_a_sequence_is_answered_as_if_alone(name: str, form: str) -> None:
    model = model_of(tiny(name))
    if form == "packed" and not takes(model, "lengths"):
        pytest.skip("takes no packed sequences")
    wanted, gradients = answered(model, "alone")
    got, others = answered(model, form)
    for one, two in zip(got, wanted, strict=True):
        close(one, two)
    for path, gradient in gradients.items():
        close(others[path] / gradient.abs().max().clamp(min=1), gradient / gradient.abs().max().clamp(min=1))


def answered(model: Any, form: str) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The answers, and the gradient of a sum in which no two values count the same."""
    model.zero_grad()
    found = answers(model, form)
    generator = torch.Generator().manual_seed(3)
    sum((each * torch.randn(each.shape, generator=generator)).sum() for each in found).backward()
    return [each.detach() for each in found], {
        n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and not n.startswith(idle(model))
    }


@pytest.mark.parametrize("name", [name for name in systems() if name != "clip"])
def test_a_sample_is_answered_as_if_alone_in_any_order(name: str) -> None:
    """But for CLIP's, which says of every picture how well it goes with every text."""
    model = model_of(tiny(name))
    batch = example(model, 4)
    whole = model(**batch)
    for i in range(4):
        close(model(**{key: value[i : i + 1] for key, value in batch.items()})[0], whole[i])
    order = torch.tensor([2, 0, 3, 1])
    close(model(**{key: value[order] for key, value in batch.items()}), whole[order])


def test_no_system_that_takes_text_is_left_out() -> None:
    assert {"bert", "gpt", "llama", "t5", "transformer"} <= set(RAGGED)
