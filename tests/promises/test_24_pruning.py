"""Promise 24: heads and hidden units of any model can go, and the model is saved, built and exported like any other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.contracts import Reduction
from everyformer.designs import design_of, parts_at
from everyformer.registry import Part
from everyformer.training.averaging import weights
from support.agreement import close
from support.systems import failing, model_of, tiny


def of(model: Any) -> list[str]:
    """The parts with units."""
    return [
        path
        for path, _ in design_of(model).walk()
        if any(isinstance(part, Part) and part.units() for _, _, part in parts_at(model, path))
    ]


def reads(model: nn.Module) -> bool:
    """Whether the number of tokens follows what heads do, so that one that adds nothing is still looked at."""
    return any(isinstance(each, Reduction) for each in model.modules())


@pytest.mark.parametrize("name", failing("the scores of all heads are mapped together", "dvt"))
def test_units_whose_output_is_zero_can_go(name: str) -> None:
    """In every system: taking them out changes no answer, or is refused before anything is touched."""
    model: Any = model_of(tiny(name))
    batch, spec = model.example(), model.spec
    for path in [] if reads(model) else of(model)[:3]:
        inside: list[Any] = [part for _, _, part in parts_at(model, path)]
        count = inside[0].units().count
        for part in inside:
            units = part.units()
            if units.output in part.plain_maps():
                with torch.no_grad():
                    getattr(part, units.output).weight[:, units.inputs[0]] = 0
        before = answer(model, batch)
        try:
            ef.keep(model, {path: range(min(1, count - 1), count)})
        except ef.DoesNotFit:
            assert model.spec == spec
        close(answer(model, batch), before, f"{name} {path}")
        spec = model.spec
    again = ef.Design.from_yaml(ef.Design(spec).to_yaml()).build(device="meta")
    assert {k: v.shape for k, v in weights(again).items()} == {k: v.shape for k, v in weights(model).items()}


def answer(model: Any, batch: dict[str, Tensor]) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        found = model(**batch)
    return found if isinstance(found, Tensor) else found.values
