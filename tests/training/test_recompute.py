"""Blocks that are computed again for the backward pass: the same gradients from less memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.costs import on_meta
from everyformer.errors import DoesNotFit, EveryformerError
from everyformer.objectives import NextToken
from everyformer.recipe import Training
from everyformer.training import train
from everyformer.training.footprint import step_cost
from everyformer.training.recompute import recompute
from support.rooms import example
from support.systems import model_of, said, systems, tiny

from .fakes import Sums, recipe


def gradients(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The answer with all that is random in it, and the gradient of each weight."""
    torch.manual_seed(0)
    answer = said(model.train(), batch)
    (answer * torch.randn(answer.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    return answer.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", systems())
def test_every_system_has_the_same_gradients_or_is_refused(name: str) -> None:
    model = model_of(tiny(name))
    again, batch = copy.deepcopy(model), example(model, 2)
    try:
        recompute(again)
    except DoesNotFit as error:
        assert "counts what it sees" in str(error)
        return
    (answer, wanted), (told, found) = gradients(model, batch), gradients(again, batch)
    torch.testing.assert_close(told, answer, rtol=0, atol=0, equal_nan=True)
    for path, gradient in wanted.items():
        torch.testing.assert_close(found[path], gradient, rtol=1e-5, atol=1e-6, equal_nan=True, msg=path)


def test_a_deep_model_keeps_the_inputs_of_its_blocks() -> None:
    """Twelve layers: less than a fifth of what a forward pass keeps, for at most a third more FLOPs."""
    design = ef.design("gpt", vocabulary=64, length=128, width=64, depth=12, heads=4)
    batch = {name: torch.zeros(4, 128, dtype=torch.long) for name in ("inputs", "labels")}
    plain, again = (step_cost(on_meta(design), NextToken(), batch, Training(recompute=each)) for each in (False, True))
    assert again.activations < plain.activations / 5
    assert again.peak < plain.peak
    assert plain.flops < again.flops <= plain.flops * 4 / 3


def test_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Dropout included."""
    plain, again = (
        train(recipe(recompute=each), tmp_path / str(each), task=Sums(), progress=False) for each in (False, True)
    )
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recompute": True, "compile": True}, "training.recompute=true or training.compile=true, not both"),
        ({"offload": True}, "training.offload=true goes with training.strategy=fsdp.* given 'auto'"),
    ],
)
def test_what_cannot_go_together_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EveryformerError, match=message):
        train(recipe(**options), tmp_path / "run", task=Sums(), progress=False)


def test_blocks_that_count_are_refused() -> None:
    """By path, before anything is changed."""
    model = ef.create("unified-normalization", classes=3, image=8, patch=4, width=16, depth=2, heads=2)
    with pytest.raises(DoesNotFit, match="UnifiedNorm counts what it sees.*leave training.recompute=true out"):
        recompute(model)
