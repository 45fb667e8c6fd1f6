"""Evidence for a memory of other pictures, on a few handwritten digits of each class."""

from __future__ import annotations

from functools import cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.backbones import keeping
from everyformer.data import find_task
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.objectives import Classification, Objective, Remembered
from everyformer.recipe import load_recipe

_SHOTS, _STEPS, _BATCH, _SEEDS = 100, 600, 64, 2
_SIZES = (0, 100, 300, 1000)
_DESIGN: dict[str, Any] = {
    "classes": 10, "image": 8, "channels": 1, "patch": 4, "width": 48, "depth": 2, "heads": 4, "ratio": 2.0,
}  # fmt: skip


@cache
def _digits() -> Any:
    return find_task("image-classification").open(**load_recipe("digits").data)


def _remembering(capacity: int, seed: int) -> nn.Module:
    return ef.create("hypothesis-c-across", **_DESIGN, capacity=capacity, keep=16, seed=seed)


@cache
def _learnt(system: str, seed: int) -> nn.Module:
    """After the steps on the first pictures of the training part alone."""
    task = _digits()

    def batch(step: int) -> dict[str, Tensor]:
        rows = torch.randperm(_SHOTS, generator=torch.Generator().manual_seed(step))[:_BATCH]
        given = task.batch("train", rows.tolist(), train=True, seed=step)
        return given if system == "vit" else {**given, "ids": rows}

    model = ef.create("vit", **_DESIGN, seed=seed) if system == "vit" else _remembering(_SHOTS, seed)
    objective: Objective = Classification() if system == "vit" else Remembered()
    return learn(model, objective, batch, _STEPS, lr=3e-3, rate=warmed(50), weight_decay=0.05)


def _opened(model: Any) -> float:
    """How far the gates of the last block are open."""
    return float(model.backbone.body.blocks[-1].mixer.gate.detach().sigmoid().mean())


@cache
@torch.no_grad()
def _accuracy(size: int, shuffled: bool = False) -> float:
    """On the test part, with a bank of the first `size` pictures of the training part, or the classes of others with them."""
    task, found = _digits(), []
    for seed in range(_SEEDS):
        model = _remembering(max(size, 1), seed).eval()
        model.load_state_dict(dict(_learnt("hypothesis-c-across", seed).named_parameters()), strict=False)
        if size:
            given = task.batch("train", range(size))
            order = (
                torch.randperm(size, generator=torch.Generator().manual_seed(seed)) if shuffled else torch.arange(size)
            )
            with keeping(model, torch.arange(size), given["labels"][order]):
                model(given["inputs"])
        found.append(task.evaluate(model, "test").metrics["accuracy"])
    return mean(found)


@evidence(
    "hypothesis-c-across",
    kind="learns",
    claim="After a few pictures of each class, test accuracy with many more in the bank is above the same ViT's.",
)
def bank_learns() -> Finding:
    """A hundred digits to learn from, a thousand in the bank; two seeds."""
    ours = _accuracy(max(_SIZES))
    plain = mean(_digits().evaluate(_learnt("vit", seed), "test").metrics["accuracy"] for seed in range(_SEEDS))
    held = ours > plain
    return Finding(verdict(held), f"{ours:.4f} against {plain:.4f}", {"bank": ours, "vit": plain})


@evidence(
    "hypothesis-c-across",
    kind="claim",
    claim="Accuracy rises with the pictures in the bank, and falls back where they have the classes of others.",
)
def bank_of_pictures() -> Finding:
    """Banks that were never learnt from, of 0 to 1,000 digits; the gain of the largest is halved at least by shuffling."""
    right = {size: _accuracy(size) for size in _SIZES}
    wrong = {size: _accuracy(size, shuffled=True) for size in _SIZES[1:]}
    each, least, most = [*right.values()], right[min(_SIZES)], right[max(_SIZES)]
    held = each == sorted(set(each)) and wrong[max(_SIZES)] < (least + most) / 2
    gates = [_opened(_learnt("hypothesis-c-across", seed)) for seed in range(_SEEDS)]
    figures: dict[str, Any] = {"pictures": right, "shuffled": wrong, "gates": gates}
    finding = ", ".join(f"{size} pictures {figure:.4f}" for size, figure in right.items())
    return Finding(verdict(held), f"{finding}; shuffled {wrong[max(_SIZES)]:.4f}", figures)
