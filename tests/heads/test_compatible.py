"""Vectors that old ones can be compared with: the authors' code, what rotations keep, and the loss written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import one_hot

import everyformer as ef
from everyformer.context import Context
from everyformer.heads import BasisTransforms
from everyformer.objectives import BackwardCompatible
from support.agreement import close, perturb

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Vector(nn.Module):
    """A frozen model that answers with a linear map of the mean pixels."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.map = torch.randn(3, width, generator=torch.Generator().manual_seed(seed))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3)) @ self.map


def test_vectors_are_those_of_the_authors_code() -> None:
    kept = load_file(FIXTURES / "bt2.safetensors")
    head = BasisTransforms(10, classes=3, old=6, extra=4)
    names = {name: each for name, each in kept.items() if "." in name}
    head.load_state_dict({**names, "first.generator": kept["first"], "second.generator": kept["second"]})
    notes: dict[str, Tensor] = {}
    vector = head(ef.Tokens(kept["input"][:, None]), Context(notes=notes))
    close(vector, kept["vector"])
    for name, theirs in (("old", "old"), ("new", "new"), ("labels", "logits")):
        close(notes[name], kept[theirs], name)


def test_rotations_keep_all_inner_products() -> None:
    """Those of [u ; C n], whatever the generators are; and a fresh head turns nothing."""
    head = BasisTransforms(10, classes=3, old=6, extra=4)
    tokens = ef.Tokens(torch.randn(5, 1, 10, generator=torch.Generator().manual_seed(0)))
    notes: dict[str, Tensor] = {}
    before = head(tokens, Context(notes=notes))
    close(before[:, 4:6], 3 * notes["new"][:, :2])
    perturb(head.first, seed=1, std=0.5)
    perturb(head.second, seed=2, std=0.5)
    after = head(tokens)
    close(after @ after.T, before @ before.T)
    assert (after - before).abs().max() > 0.1


def test_the_loss_is_classes_and_nearness_to_both() -> None:
    plain: Any = ef.create("vit", classes=3, image=8, patch=4, width=16, depth=1, heads=2, seed=0).eval()
    model = perturb(ef.compression.bt2(plain, old=6, extra=2), seed=1, std=0.1)
    batch = {
        "inputs": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(4) % 3,
    }
    assert model(batch["inputs"]).shape == (4, 8)
    old, new = Vector(6, 1), Vector(6, 2)
    objective = BackwardCompatible(old=10.0, new=1.0)
    with pytest.raises(ef.EveryformerError, match="call objective.teach"):
        objective(model, batch)
    objective.teach(old, new)
    loss = objective(model, batch)
    notes: dict[str, Tensor] = {}
    model(batch["inputs"], context=Context(notes=notes))
    wanted = torch.tensor(0.0)
    for i in range(4):
        wanted = wanted - (notes["labels"][i].log_softmax(0) * one_hot(batch["labels"][i], 3)).sum()
        for name, share, frozen in (("old", 10, old), ("new", 1, new)):
            theirs = frozen(batch["inputs"])[i]
            wanted = wanted + share * (1 - notes[name][i] @ theirs / notes[name][i].norm() / theirs.norm())
    close(loss.total, wanted)
    loss.total.backward()
    assert all(
        each.grad is not None and each.grad.abs().sum() > 0 for each in model.head.parameters() if each.numel() > 1
    )


def test_what_does_not_fit_is_told() -> None:
    plain: Any = ef.create("vit", classes=3, image=8, patch=4, width=16, depth=1, heads=2, seed=0).eval()
    batch = {"inputs": torch.zeros(2, 3, 8, 8), "labels": torch.tensor([0, 1])}
    objective = BackwardCompatible()
    objective.teach(Vector(5, 0), Vector(6, 0))
    with pytest.raises(ef.DoesNotFit, match="the head notes no vectors"):
        objective(plain, batch)
    with pytest.raises(ef.DoesNotFit, match=r"the old model answers \(2, 5\), and the head \(2, 6\)"):
        objective(ef.compression.bt2(plain, old=6), batch)
    with pytest.raises(ef.EveryformerError, match="old is at least 1 and extra at least 0"):
        ef.compression.bt2(plain, old=0)
    with pytest.raises(ef.DoesNotFit, match="a head of classes over pooled tokens"):
        ef.compression.bt2(ef.create("gpt", vocabulary=9, width=16, depth=1, heads=2, length=8), old=6)
