"""Promise 10: a step's update is that of its whole batch, however it is cut, on ragged data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from everyformer.training import train
from everyformer.training.designing import design_for
from training.fakes import Sums, recipe

PLAIN = {"batch": 8, "steps": 1, "warmup": 0.0, "clip": None, "schedule": "constant", "lr": 0.1, "keep": "last"}


def updated(folder: Path, **options: object) -> dict[str, Tensor]:
    given = recipe(**{**PLAIN, **options})
    given.design["dropout"] = 0.0
    return dict(train(given, folder, task=Sums(), progress=False).model.named_parameters())


@pytest.fixture
def by_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain gradient descent, whose update is the gradient itself; AdamW's first update is little more than its sign."""
    monkeypatch.setitem(
        sys.modules["everyformer.training.optimizers"].OPTIMIZERS,
        "adamw",
        lambda module, training: [torch.optim.SGD(module.parameters(), lr=training.lr)],
    )


@pytest.mark.usefixtures("by_gradient")
@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulation_is_exact(tmp_path: Path, accumulate: int) -> None:
    whole = updated(tmp_path / "whole")
    parts = updated(tmp_path / "parts", accumulate=accumulate)
    begun = dict(design_for({**recipe().design, "dropout": 0.0}, Sums().facts).build(seed=0).named_parameters())
    moved = max((whole[name] - begun[name]).abs().max() for name in whole)
    assert moved > 1e-2
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.usefixtures("by_gradient")
def test_the_update_is_the_mean_over_tokens(tmp_path: Path) -> None:
    task = Sums()
    model = design_for({**recipe().design, "dropout": 0.0}, task.facts).build(seed=0)
    from everyformer.training.order import BySamples

    samples = BySamples(task.size("train"), 8, 0)(0)
    losses = []
    for sample in samples:
        one = task.batch("train", [sample])
        logits = model(one["inputs"])[0]
        losses += [torch.nn.functional.cross_entropy(logits[i], label) for i, label in enumerate(one["labels"][0])]
    torch.stack(losses).mean().backward()
    expected = {name: p.detach() - 0.1 * p.grad for name, p in model.named_parameters()}
    for name, value in updated(tmp_path, accumulate=4).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0, msg=name)


def test_two_processes_are_exact(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path]), "CUDA_VISIBLE_DEVICES": ""}
    for devices in (1, 2):
        code = SCRIPT.format(folder=str(tmp_path / str(devices)), devices=devices, plain=PLAIN)
        script = tmp_path / "script.py"
        script.write_text(code)
        subprocess.run([sys.executable, script], env=environment, check=True, timeout=200, capture_output=True)
    from safetensors.torch import load_file

    one, two = (load_file(tmp_path / str(devices) / "model.safetensors") for devices in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0, msg=name)


SCRIPT = """
import torch
from training.fakes import Sums, recipe
from everyformer.training import optimizers, train

if __name__ == "__main__":
    optimizers.OPTIMIZERS["adamw"] = lambda module, training: [torch.optim.SGD(module.parameters(), lr=training.lr)]
    strategy = "ddp_fork" if {devices} > 1 else "auto"
    given = recipe(**{plain}, devices={devices}, accumulate=2, strategy=strategy)
    given.design["dropout"] = 0.0
    train(given, "{folder}", task=Sums(), progress=False)
"""
