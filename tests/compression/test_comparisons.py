"""Methods in every order, and ways compared where they cost the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.compression import at_equal_cost, in_every_order, rtn, wanda
from everyformer.compression.orders import plain
from everyformer.costs import parameters
from support.parity import ids
from support.systems import tiny


def test_each_order_is_the_changes_one_after_the_other_and_the_model_stays() -> None:
    model: Any = tiny("llama").build(seed=0)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    batches = [ids(20, 4, 8)]
    changes = {"prune": lambda made: wanda(made, batches), "round": lambda made: rtn(made, bits=4, group=16)}
    found = dict(in_every_order(model, changes))
    assert set(found) == {("prune", "round"), ("round", "prune")}
    path = "backbone.blocks.1.feedforward.up"
    for order, made in found.items():
        weight = made.get_submodule(path).weight
        assert (weight == 0).float().mean() >= 0.5, order
        assert all(len(group.unique()) <= 17 for group in weight.view(-1, 16)), order
    wanted = changes["round"](plain(changes["prune"](model)))
    assert torch.equal(found["prune", "round"](batches[0]), wanted(batches[0]))
    assert not torch.equal(found["round", "prune"](batches[0]), wanted(batches[0]))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    with pytest.raises(ef.BadInput, match="two changes or more"):
        next(iter(in_every_order(model, {})))


def test_each_way_spends_as_much_of_the_budget_as_it_can() -> None:
    def wide(share: float) -> Any:
        return torch.nn.Linear(max(1, round(100 * share)), 10, bias=False)

    found = at_equal_cost({"wide": wide, "whole": lambda share: torch.nn.Linear(20, 10, bias=False)}, parameters, 430.0)
    assert found["wide"].cost == 430
    assert found["wide"].share == pytest.approx(0.43, abs=0.02)
    assert found["whole"].share == 1.0
    with pytest.raises(ef.BadInput, match="'wide' makes nothing that costs at most 5"):
        at_equal_cost({"wide": wide}, parameters, 5.0)
