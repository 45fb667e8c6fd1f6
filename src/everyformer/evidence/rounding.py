"""Evidence for methods that round the weights and activations of a trained model or leave weights out, on a GPT that learnt Shakespeare by characters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.compression import (
    Fixed,
    Quantized,
    Sparse,
    awq,
    gptq,
    int8,
    os_plus,
    repquant,
    rtn,
    smoothquant,
    sparsegpt,
    wanda,
)
from everyformer.compression.calibration import BLOCKS, linears, observe
from everyformer.compression.folding import folds
from everyformer.data import Task, find_task
from everyformer.edits import swap
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import SHORT, trigrams_of_shakespeare
from everyformer.evidence.runs import trained
from everyformer.recipe import load_recipe
from everyformer.specs import spec
from everyformer.training.speedup import calibration

_OUTLIERS = 40.0


@cache
def _gpt() -> tuple[nn.Module, Task, list[dict[str, Tensor]]]:
    """600 steps of nanoGPT's CPU setting, its task, and 64 windows of the training part."""
    with trained("shakespeare", *SHORT) as run:
        model = run.model
    task = find_task("language-modelling").open(**load_recipe("shakespeare").data)
    return model, task, calibration(task, 64)


@cache
def _with_outliers() -> nn.Module:
    """The same function with some channels behind each norm far larger, and off the middle, as in large language models."""
    model, _, batches = _gpt()
    made = copy.deepcopy(model)
    maps = linears(made, BLOCKS)
    generator = torch.Generator().manual_seed(0)
    for fold in folds(made, {"inputs": batches[0]["inputs"]}, maps):
        if fold.normed:
            width = int(maps[fold.readers[0]].in_features)  # type: ignore[arg-type]
            scale = torch.ones(width)
            scale[torch.randperm(width, generator=generator)[:3]] = 1 / _OUTLIERS
            shift = _OUTLIERS / 4 * torch.randn(width, generator=generator) if fold.shifts(maps) else None
            fold.apply(maps, scale, shift)
    return made


def _loss(model: nn.Module) -> float:
    return _gpt()[1].evaluate(model, "valid").metrics["loss"]


def fixed(model: nn.Module, batches: list[dict[str, Tensor]], bits: int) -> nn.Module:
    """A copy with weights rounded by channel, and inputs by the range that they have in these batches; nothing is moved."""
    maps = linears(model, BLOCKS)
    form = spec(Quantized, bits=bits, group="channel", rounded=spec(Fixed, bits=bits))
    made = swap(copy.deepcopy(model), [*maps], form)
    for path, seen in observe(model, batches, maps).items():
        made.get_submodule(path).rounded.fit(seen.low, seen.high)
    return made


def _ids() -> list[dict[str, Tensor]]:
    return [{"inputs": each["inputs"]} for each in _gpt()[2]]


def _learns(make: Callable[[], nn.Module]) -> Callable[[], Finding]:
    def run() -> Finding:
        ours, baseline = _loss(make()), trigrams_of_shakespeare()
        held = ours < baseline
        plain = _loss(_gpt()[0])
        figures = {"rounded": ours, "as trained": plain, "trigrams": baseline}
        return Finding(
            verdict(held), f"{ours:.4f} ({plain:.4f} as trained) against {baseline:.4f} nats a character", figures
        )

    return run


_MADE: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "rtn": ("In 8 bits", lambda: rtn(_gpt()[0], bits=8)),
    "llm-int8": ("In 8 bits", lambda: int8(_gpt()[0])),
    "gptq": ("In 4 bits", lambda: gptq(_gpt()[0], _gpt()[2], bits=4, group=32)),
    "awq": ("In 4 bits", lambda: awq(_gpt()[0], _gpt()[2], bits=4, group=32)),
    "smoothquant": ("In 8 bits, outliers planted", lambda: smoothquant(_with_outliers(), _gpt()[2])),
    "wanda": ("With half its weights", lambda: wanda(_gpt()[0], _gpt()[2])),
    "sparsegpt": ("With half its weights", lambda: sparsegpt(_gpt()[0], _gpt()[2])),
    "os-plus": ("In 6 bits, outliers planted", lambda: os_plus(_with_outliers(), _gpt()[2], bits=6)),
    "repquant": ("In 6 bits, outliers planted", lambda: repquant(_with_outliers(), _gpt()[2], bits=6)),
}
for _name, (_how, _make) in _MADE.items():
    evidence(
        _name,
        kind="learns",
        claim=f"{_how} a trained GPT is still below an interpolated trigram model on Shakespeare.",
    )(_learns(_make))


def _against_rounding(method: Callable[..., nn.Module], share: float, **options: Any) -> Finding:
    """What a method adds to the loss at 4 and 3 bits, as a share of what rounding adds."""
    model, _, batches = _gpt()
    plain = _loss(model)
    added: dict[str, dict[str, float]] = {"rounding": {}, "method": {}}
    for bits in (4, 3):
        added["rounding"][f"{bits} bits"] = _loss(rtn(model, bits=bits, **options)) - plain
        added["method"][f"{bits} bits"] = _loss(method(model, batches, bits=bits, **options)) - plain
    shares = [added["method"][name] / added["rounding"][name] for name in added["method"]]
    held = max(shares) <= share
    told = "; ".join(
        f"{name}: {added['method'][name]:+.4f} against {added['rounding'][name]:+.4f}" for name in added["method"]
    )
    return Finding(verdict(held), f"{told} nats on {plain:.4f}", {"loss": plain, "added": added})


@evidence(
    "gptq",
    kind="claim",
    claim="At 4 and at 3 bits by channel it adds at most half the loss that rounding adds (tables 2 and 3).",
)
def gptq_halves() -> Finding:
    """A GPT of 0.8 M parameters, 64 windows of calibration."""
    return _against_rounding(gptq, 0.5, group="channel")


@evidence("awq", kind="claim", claim="At 4 and at 3 bits in groups it adds less loss than rounding (table 4).")
def awq_is_less() -> Finding:
    """Groups of 32, 64 windows of calibration."""
    return _against_rounding(awq, 1.0, group=32)


@evidence(
    "smoothquant",
    kind="claim",
    claim="With outlying channels 8-bit products cost it next to nothing, and plain ones dear (table 4).",
)
def smoothquant_is_smooth() -> Finding:
    """The same function with planted outliers: at most a fifth of the loss that plain 8-bit products add."""
    model, plain = _with_outliers(), _loss(_gpt()[0])
    ours, theirs = (_loss(each) - plain for each in (smoothquant(model, _gpt()[2]), int8(model)))
    held = ours <= 0.2 * theirs
    figures = {"loss": plain, "smoothquant": ours, "int8": theirs}
    return Finding(verdict(held), f"{ours:+.4f} against {theirs:+.4f} nats on {plain:.4f}", figures)


@evidence(
    "os-plus",
    kind="claim",
    claim="With outlying channels that are off the middle 6 bits are near floating point, plain ones are not (table 3).",
)
def os_plus_is_near() -> Finding:
    """Weights and inputs in 6 bits, planted outliers: at most 5 % of the loss added, and a fifth of what plain rounding adds."""
    return _is_near(os_plus, 6, 0.05)


def _is_near(method: Callable[..., nn.Module], bits: int, most: float) -> Finding:
    """What a method adds to the loss with planted outliers, beside what plain rounding of weights and inputs adds."""
    model, plain = _with_outliers(), _loss(_gpt()[0])
    ours, theirs = (_loss(each) - plain for each in (method(model, _gpt()[2], bits=bits), fixed(model, _ids(), bits)))
    held = ours <= min(most * plain, 0.2 * theirs)
    figures = {"loss": plain, "method": ours, "rounded": theirs}
    return Finding(verdict(held), f"{ours:+.4f} against {theirs:+.4f} nats on {plain:.4f}", figures)


@evidence(
    "repquant",
    kind="claim",
    claim="Uneven channels behind norms cost little in few bits, attention's weights in steps of half an octave included.",
)
def repquant_is_near() -> Finding:
    """6 bits, planted outliers: at most a tenth of the loss added, and a fifth of what plain rounding of maps alone adds."""
    return _is_near(repquant, 6, 0.1)


def _against_the_largest(method: Callable[..., nn.Module], share: float) -> Finding:
    """What a method adds to the loss with half the weights, as a share of what keeping the largest adds."""
    model, _, batches = _gpt()
    plain = _loss(model)
    largest = swap(copy.deepcopy(model), [*linears(model, BLOCKS)], spec(Sparse, keep=0.5))
    ours, theirs = _loss(method(model, batches)) - plain, _loss(largest) - plain
    held = ours <= share * theirs
    figures = {"loss": plain, "method": ours, "largest": theirs}
    return Finding(verdict(held), f"{ours:+.4f} against {theirs:+.4f} nats on {plain:.4f}", figures)


@evidence(
    "wanda", kind="claim", claim="Half the weights left out, it adds less loss than keeping the largest (table 2)."
)
def wanda_is_less() -> Finding:
    """A GPT of 0.8 M parameters, 64 windows of calibration."""
    return _against_the_largest(wanda, 1.0)


@evidence(
    "sparsegpt",
    kind="claim",
    claim="Half the weights left out, it adds at most half the loss that keeping the largest adds (table 1).",
)
def sparsegpt_halves() -> Finding:
    """A GPT of 0.8 M parameters, 64 windows of calibration."""
    return _against_the_largest(sparsegpt, 0.5)
