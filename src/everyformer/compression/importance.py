"""Heads and layers of a trained model left out by how much an answer hangs on them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.calibration import Calibration, batches_of, labelled
from everyformer.compression.structures import Scores, allocate, gated, prunable, sliced, within
from everyformer.designs import design_of
from everyformer.edits import remove
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.objectives.base import Objective
from everyformer.registry import method
from everyformer.tokens import Tokens
from everyformer.units import Units


@method(
    "head-pruning",
    title="Are Sixteen Heads Really Better than One?",
    authors="Michel et al.",
    year=2019,
    arxiv="1905.10650",
    idea="Leave out the heads by whose gates the loss would change least, the gradient at a gate being the measure.",
)
def head_pruning(
    model: nn.Module, calibration: Calibration, objective: Objective, *, keep: float = 0.5, paths: str = "**.mixer"
) -> nn.Module:
    """Section 4.1: a copy of the model with the share `keep` of all its heads, at least one in each layer."""
    found = prunable(model, paths)
    scores = sensitivity(model, labelled(calibration, model), objective, found)
    one = dict.fromkeys(found, 1.0)
    total = float(sum(units.count for units in found.values()))
    return sliced(model, allocate(scores, one, found, within(keep, total, found, one)))


def sensitivity(
    model: nn.Module, batches: list[dict[str, Tensor]], objective: Objective, found: Mapping[str, Units]
) -> Scores:
    """The mean over the samples of |dL / d gate|, in each layer divided by their Euclidean norm."""
    gates = {path: torch.ones(units.count, requires_grad=True) for path, units in found.items()}
    totals = {path: torch.zeros(units.count) for path, units in found.items()}
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for batch in batches:
        for row in range(len(batch["inputs"])):
            with gated(made, gates):
                loss = objective(made, {name: value[row : row + 1] for name, value in batch.items()})
            given = torch.autograd.grad(loss.total / loss.count, [*gates.values()])
            for path, each in zip(gates, given):
                totals[path] += each.abs()
    return {path: total / total.norm().clamp(min=1e-30) for path, total in totals.items()}


@method(
    "layer-pruning",
    title="ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
    authors="Men et al.",
    year=2024,
    arxiv="2403.03853",
    idea="Leave out the layers that change the direction of their tokens least.",
)
def layer_pruning(
    model: nn.Module, calibration: Calibration, *, drop: int = 1, paths: str = "backbone.blocks.*"
) -> nn.Module:
    """A copy of the model without the `drop` blocks of the least influence."""
    made = copy.deepcopy(model).eval()
    worth = influence(made, batches_of(calibration, model), paths)
    if not 0 <= drop < len(worth):
        raise BadInput(f"of {len(worth)} blocks 0 to {len(worth) - 1} can go; given drop={drop}")
    for path in sorted(sorted(worth, key=worth.__getitem__)[:drop], key=_number, reverse=True):
        remove(made, path)
    return made


def _number(path: str) -> int:
    return int(path.rpartition(".")[2])


@torch.no_grad()
def influence(model: nn.Module, batches: list[dict[str, Tensor]], paths: str) -> dict[str, float]:
    """1 - the mean cosine of a token before and after each block (block influence), by path."""
    blocks = {path: model.get_submodule(path) for path in design_of(model).find(paths)}
    if not blocks or not all(path.rpartition(".")[2].isdigit() for path in blocks):
        raise UnknownName("list of blocks", paths, [path for path, _ in design_of(model).walk() if path[-1:].isdigit()])
    totals, counts = dict.fromkeys(blocks, 0.0), dict.fromkeys(blocks, 0)

    def look(path: str, before: Tokens, after: Tokens) -> None:
        if before.values.shape != after.values.shape:
            raise DoesNotFit(
                f"it makes {tuple(after.values.shape)} of {tuple(before.values.shape)}, and cannot be left out", path
            )
        totals[path] += float(_turned(before.values, after.values))
        counts[path] += before.batch * before.count

    handles = [
        block.register_forward_hook(lambda _, args, after, path=path: look(path, args[0], after))
        for path, block in blocks.items()
    ]
    try:
        for batch in batches:
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return {path: totals[path] / max(counts[path], 1) for path in blocks}


def _turned(before: Float[Tensor, "B N D"], after: Float[Tensor, "B N D"]) -> Any:
    return (1 - F.cosine_similarity(before.double(), after.double(), dim=-1)).sum()
