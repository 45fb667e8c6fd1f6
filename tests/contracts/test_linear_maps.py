"""What every form of a linear map keeps, and that one can stand for any plain map of any system."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.contracts import LinearMap
from everyformer.registry import parts
from support.parts import make
from support.systems import model_of, systems, tiny

FORMS = [f"compression.{name}" for name, cls in parts("compression").items() if issubclass(cls, LinearMap)]


class Dense(LinearMap):
    """The matrix itself, out of reach of whoever expects an nn.Linear."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.matrix = nn.Parameter(torch.zeros(outputs, inputs))

    @property
    def weight(self) -> Tensor:
        return self.matrix

    def take(self, weight: Tensor) -> None:
        self.matrix.copy_(weight)


@pytest.mark.parametrize("name", FORMS)
def test_maps_with_the_weight_that_it_says(name: str) -> None:
    form = make(name)
    old = nn.Linear(form.in_features, form.out_features)
    form.inherit(old)
    values = torch.randn(2, 5, form.in_features, requires_grad=True)
    torch.testing.assert_close(form(values), F.linear(values, form.weight, form.bias), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(form.plain()(values), form(values), atol=1e-5, rtol=1e-5)
    assert torch.equal(form.bias, old.bias)


@pytest.mark.parametrize("name", FORMS)
def test_takes_what_it_gives(name: str) -> None:
    form, again = make(name), make(name, seed=1)
    form.inherit(nn.Linear(form.in_features, form.out_features))
    again.inherit(form)
    torch.testing.assert_close(again.weight, form.weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", systems())
def test_every_plain_map_of_a_system_can_have_another_form(name: str) -> None:
    model: Any = model_of(tiny(name))
    batch = model.example()
    before = model(**batch)
    paths = ef.Design(model.spec, name).linears()
    for path in paths:
        ef.swap(model, path, ef.spec(Dense))
    torch.testing.assert_close(model(**batch), before, atol=1e-6, rtol=1e-6)
