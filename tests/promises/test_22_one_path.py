"""Promise 22: train, eval, no_grad, compiled and exported agree, and every module is really called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.contracts import Position, ScoreStep
from everyformer.generation.decoding import takes_padding
from support.parts import close
from support.rooms import example
from support.systems import failing, idle, model_of, said, systems, takes, tiny


def batch_of(model: nn.Module, *, graph: bool = False) -> dict[str, torch.Tensor]:
    """A batch of two, with padding where the system takes it: rows of padding are compared too.

    A mixer that takes no padding by itself is called once for each length, and no `graph` can hold that.
    """
    batch = example(model, 2)
    if takes(model, "mask") and (takes_padding(model) or not graph):
        batch["mask"] = torch.ones(batch["inputs"].shape[:2], dtype=torch.bool)
        batch["mask"][1, 5:] = False
    return batch


BARE = "a parameter that no forward of its module meets, but a product or a choice, or that is run backwards"
OTHERWISE = (
    nn.BatchNorm1d, nn.BatchNorm2d, ef.backbones.FreeLatent, ef.feedforward.SampleGate, ef.mixers.SubsampledAttention, ef.norms.UnifiedNorm, ef.reduction.DynamicViT, ef.reduction.Patchout,
    ef.heads.SlotMasks, ef.reduction.Grouping, ef.reduction.Interpreter, ef.reduction.RandomDrop,
)  # fmt: skip
"""What is another function in training by its own definition: statistics of the batch, tokens or layers left out at random,
codes that are told, orders that are drawn."""


@pytest.mark.parametrize("name", systems())
def test_train_eval_and_no_grad_agree(name: str) -> None:
    model = model_of(tiny(name))
    batch = batch_of(model)
    evaluated = model.eval()(**batch)
    if not any(isinstance(module, OTHERWISE) for module in model.modules()):
        close(model.train()(**batch), evaluated)
    with torch.no_grad():
        close(model.eval()(**batch), evaluated)
    with torch.inference_mode():
        close(model(**batch), evaluated)


@pytest.mark.parametrize("name", systems())
def test_compiled_agrees(name: str) -> None:
    model = model_of(tiny(name))
    batch = batch_of(model, graph=True)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    close(compiled(**batch), model(**batch))


@pytest.mark.parametrize("name", failing(BARE, "hypothesis-c"))
def test_a_hook_on_every_leaf_fires(name: str) -> None:
    """But for positions and steps that hold no weights, and that attention asks for this or that."""
    model = model_of(tiny(name))
    fired: set[str] = set()
    wanted = set()
    for path, module in model.named_modules():
        asked = isinstance(module, ScoreStep) or (isinstance(module, Position) and module.stands == "attention")
        asked = asked and not list(module.parameters())
        if not list(module.children()) and not isinstance(module, nn.ModuleList) and not asked:
            wanted.add(path)
            module.register_forward_hook(lambda m, i, o, path=path: fired.add(path))
    said(model, batch_of(model))
    assert {path for path in wanted if not path.startswith(idle(model))} <= fired <= wanted


@pytest.mark.parametrize("name", failing(BARE, "hypothesis-c", "reformer"))
def test_every_parameter_is_reached_through_its_modules_forward(name: str) -> None:
    """An adapter on any linear map or table gets a gradient where models learn, and changes what the model says."""
    model = model_of(tiny(name)).train()
    batch = batch_of(model)
    torch.manual_seed(0)
    before = said(model, batch)
    adapters: dict[str, nn.Parameter] = {}
    for path, module in model.named_modules():
        if module._parameters and any(p is not None for p in module._parameters.values()):
            adapters[path] = nn.Parameter(torch.zeros(()))
            module.register_forward_hook(lambda m, i, output, path=path: _add(output, adapters[path]))
    torch.manual_seed(0)
    answer = said(model, batch)
    close(answer, before, 0.0)
    (answer * torch.randn(answer.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for path, adapter in adapters.items():
        assert adapter.grad is not None or path.startswith(idle(model)), path


def _add(output: Any, adapter: torch.Tensor) -> Any:
    if isinstance(output, torch.Tensor):
        return output + adapter * output.abs().cumsum(-1)
    return output.update(output.values + adapter * output.values.abs().cumsum(-1))
