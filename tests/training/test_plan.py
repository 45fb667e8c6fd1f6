"""Plans against what runs measure."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.devices import DEVICES
from everyformer.errors import BadInput, EveryformerError
from everyformer.mixers import attend
from everyformer.objectives import Classification, NextToken
from everyformer.recipe import Training, load_recipe
from everyformer.training.footprint import step_cost
from everyformer.training.lesson import Both
from everyformer.training.optimizers import find_optimizer
from everyformer.training.plan import of_design, of_recipe, plan, tokens

H100 = DEVICES["h100"]
SMALL = {"width": 32, "depth": 2, "heads": 2}
PLANNED = {
    "gpt": ({"vocabulary": 300, "length": 32, **SMALL}, NextToken),
    "llama": ({"vocabulary": 300, "hidden": 64, "key_heads": 1, **SMALL}, NextToken),
    "vit": ({"classes": 10, "image": 16, "patch": 4, **SMALL}, Classification),
    "swin": ({"classes": 10, "image": 32, "width": 16, "depths": (1, 1), "heads": (2, 4)}, Classification),
    "mlp-mixer": ({"classes": 10, "image": 16, "patch": 4, "width": 32, "depth": 2}, Classification),
}


def batch_of(design: Any, count: int = 4, length: int = 32) -> dict[str, Tensor]:
    inputs = on_meta(design).example()["inputs"]
    if inputs.is_floating_point():
        return {"inputs": torch.randn(count, *inputs.shape[1:]), "labels": torch.zeros(count, dtype=torch.long)}
    return {name: torch.zeros(count, length, dtype=torch.long) for name in ("inputs", "labels")}


def measured(model: nn.Module, objective: nn.Module, batch: dict[str, Tensor], training: Training, bf16: bool) -> int:
    """The most bytes that PyTorch's allocator had given out at once in a second step of training."""
    both = Both(model.train(), objective)
    optimizers = find_optimizer(training.optimizer)(both, training)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            total, _ = both(batch)
        total.backward()
        for each in optimizers:
            each.step()
            each.zero_grad()

    step()
    held = [value for each in optimizers for state in each.state.values() for value in state.values()]
    before = sum(t.numel() * t.element_size() for t in [*both.parameters(), *both.buffers(), *held])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    now = most = 0
    events = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    for event in sorted(events, key=lambda each: each.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return before + most


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", PLANNED)
def test_memory_is_what_a_step_allocates(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 10 %; by the kernel that a GPU would take, also where a processor's is slower in bfloat16."""
    monkeypatch.setattr(attend, "_written_out_is_faster", lambda query, key: False)
    options, objective = PLANNED[name]
    design, training = ef.design(name, **options), Training(steps=1)
    batch = batch_of(design)
    planned = step_cost(
        on_meta(design), objective(), batch, training, precision=precision, processor=True
    )  # fmt: skip
    found = measured(design.build(seed=0), objective(), batch, training, precision == "bf16")
    assert planned.peak == pytest.approx(found, rel=0.1)


def test_muon_keeps_one_number_where_adamw_keeps_two() -> None:
    design = ef.design("vit", **PLANNED["vit"][0])
    costs = {
        name: step_cost(on_meta(design), Classification(), batch_of(design), Training(steps=1, optimizer=name))
        for name in ("adamw", "muon")
    }
    steps = 4 * len(list(design.build(device="meta").parameters()))
    assert costs["adamw"].optimizer == 2 * costs["adamw"].weights + steps
    assert costs["muon"].optimizer < costs["adamw"].optimizer


def test_flops_are_those_of_the_meta_device_and_backward_takes_twice_as_many() -> None:
    design = ef.design("gpt", vocabulary=300, length=64, **SMALL)
    work = of_design(design, samples=8, length=64, training=Training(steps=1), precision="bf16")
    made = plan(work, H100, utilisation=0.5)
    assert made.forward_flops == flops(on_meta(design), work.sample(1))[""]
    assert made.flops == pytest.approx(3 * made.forward_flops, rel=0.05)
    assert made.tokens == 64
    assert made.seconds == pytest.approx(8 * made.flops / (H100.bf16 * 0.5))


def test_more_devices_share_the_work_and_sharding_the_state() -> None:
    design = ef.design("gpt", vocabulary=300, length=32, **SMALL)
    work = of_design(design, samples=16, length=32, training=Training(steps=1), precision="bf16")
    one, four = plan(work, H100), plan(work, H100, devices=4)
    assert [each.strategy for each in one.spreads] == ["ddp"]
    ddp, fsdp = four.spreads
    assert (four.seconds, ddp.weights, fsdp.weights) == (one.seconds / 4, one.spreads[0].weights, ddp.weights / 4)
    assert fsdp.optimizer == ddp.optimizer / 4
    # A ring sends each gradient there and back, and in shards the weights twice and the gradients once (A.1 of Pope et al.).
    assert ddp.seconds == 2 * ddp.gradients * 3 / 4 / H100.link
    assert fsdp.seconds == 3 * ddp.gradients * 3 / 4 / H100.link


def test_what_grows_evenly_need_not_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    design = ef.design("gpt", vocabulary=300, length=32, **SMALL)
    work = of_design(design, samples=24, length=32, training=Training(steps=1), precision="bf16")
    whole = plan(work, H100).spreads[0]
    monkeypatch.setattr(sys.modules[plan.__module__], "_COUNTED", 8 * 32)
    assert plan(work, H100).spreads[0].peak == pytest.approx(whole.peak, rel=0.01)


def test_the_devices_needed() -> None:
    design = ef.design("gpt", vocabulary=300, length=32, **{**SMALL, "width": 128, "depth": 4})
    work = of_design(design, samples=8, length=32, training=Training(steps=1), precision="bf16")
    whole = plan(work, H100).spreads[0].peak
    small = dataclasses.replace(H100, memory=whole)
    made = plan(work, small)
    assert not made.fits(made.spreads[0])
    assert made.needed is not None
    assert made.needed > 1
    there = plan(work, small, devices=made.needed)
    assert there.fits(there.spreads[1])
    assert not any(map(there.fits, plan(work, small, devices=made.needed // 2).spreads[-1:]))
    assert plan(work, dataclasses.replace(H100, memory=1e5)).needed is None


def test_a_recipe_is_planned_as_it_is_trained() -> None:
    work = of_recipe(load_recipe("digits", ["training.epochs=2"]))
    assert (work.samples, work.steps, work.precision) == (64, 40, "fp32")
    assert tokens(work) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [({"devices": 0}, "devices=0 cannot be"), ({"utilisation": 1.5}, "utilisation=1.5 cannot be")],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    work = of_design(
        ef.design("vit", **PLANNED["vit"][0]), samples=1, length=None, training=Training(steps=1), precision="fp32"
    )
    with pytest.raises(EveryformerError, match=message):
        plan(work, H100, **options)
    with pytest.raises(BadInput, match="a length is that of text"):
        of_design(ef.design("vit"), samples=1, length=9, training=Training(steps=1), precision="fp32")


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from everyformer import cli

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["everyformer", "plan", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    small = ["gpt", "size=nano", "vocabulary=300", "--batch", "8", "--length", "64"]
    shown = said(*small, "--devices", "2", "--device", "a100", "--memory", "40")
    assert "each of 2 x a100 (40 GiB), bf16" in shown
    assert "needs at least 1 x a100" in shown
    plain = json.loads(said(*small, "--json"))
    assert (plain["tokens"], plain["spreads"][0]["fits"]) == (64, True)
    again = json.loads(said(*small[:-4], "training.recompute=true", "training.batch=8", *small[-2:], "--json"))
    (kept,), (formed_again,) = ([each["cost"] for each in told["spreads"]] for told in (plain, again))
    assert formed_again["flops"] > kept["flops"]
    assert formed_again["activations"] < kept["activations"]
    served = said("llama", "size=nano", "--serve", "--devices", "4", "--batch", "4")
    assert "weight-stationary" in served
