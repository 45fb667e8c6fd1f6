"""Heads and hidden units of a trained model: multiplied by gates for a while, chosen within a budget, and left out."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones import Block
from everyformer.contracts import FeedForward, Mixer, Norm
from everyformer.costs import flops
from everyformer.designs import design_of, matches, parts_at
from everyformer.edits import keep
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.objectives.base import LABELS
from everyformer.registry import Part
from everyformer.units import Units

Scores = Mapping[str, Float[Tensor, " U"]]
"""For each unit of the parts at these paths a number."""
ROUNDING = 1e-9
"""By how much a sum may pass a budget that it would meet without rounding."""


def prunable(model: nn.Module, paths: str) -> dict[str, Units]:
    """The parts that match and have more than one unit, in order; one of which none can go is refused by its path."""
    design = design_of(model)
    known: dict[str, Units] = {}
    for path, _ in design.walk():
        units = [part.units() for _, _, part in parts_at(model, path) if isinstance(part, Part)]
        if units and units[0] is not None and units[0].count > 1:
            known[path] = units[0]
    found = {path: units for path, units in known.items() if matches(path, paths)}
    if not found:
        raise UnknownName("part with heads or hidden units", paths, known)
    _least(model, found)
    return found


def units_at(model: nn.Module, path: str) -> Units:
    """The units of the part at a path."""
    units: Units = parts_at(model, path)[0][2].units()  # type: ignore[operator]
    return units


def _least(model: nn.Module, found: Mapping[str, Units]) -> Any:
    """The model without weights and with one unit of each part."""
    with torch.device("meta"):
        return keep(design_of(model).build(device="meta").eval(), {path: [0] for path in found})


@contextmanager
def gated(model: nn.Module, gates: Scores) -> Iterator[None]:
    """The model with each unit of these parts times its gate, for a while: one at 0 is as if it were not there."""
    handles = []
    for path, gate in gates.items():
        for _, _, part in parts_at(model, path):
            units: Units = part.units()  # type: ignore[operator]
            owner = torch.empty(units.inputs.numel(), dtype=torch.long, device=gate.device)
            owner[units.inputs.to(gate.device)] = torch.arange(units.count, device=gate.device)[:, None]
            handles.append(
                getattr(part, units.output).register_forward_pre_hook(
                    lambda _, args, gate=gate, owner=owner: (args[0] * gate[owner].to(args[0]),)
                )
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def damped(model: nn.Module, gates: Mapping[str, Float[Tensor, ""]]) -> Iterator[None]:
    """The model with what these parts add times a gate each, for a while: one at 0 is as if it were not there."""
    handles = [
        part.register_forward_hook(lambda _, __, update, gate=gate: update * gate.to(update))
        for path, gate in gates.items()
        for _, _, part in parts_at(model, path)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_among(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Those of the paths at which stands a whole layer of a block, that it can be without."""
    found = []
    for path in paths:
        place, _, option = path.rpartition(".")
        if option in ("mixer", "feedforward") and all(type(each) is Block for _, _, each in parts_at(model, place)):
            found.append(path)
    return found


def one_off(units: Units, unit: int, model: nn.Module) -> Float[Tensor, " U"]:
    """Gates that switch one unit off."""
    gate = torch.ones(units.count, device=next(model.parameters()).device)
    gate[unit] = 0
    return gate


def work(model: nn.Module, found: Mapping[str, Units], batch: Mapping[str, Tensor]) -> tuple[float, dict[str, float]]:
    """The FLOPs of a pass of this batch, and how many of them one unit of each part takes."""
    fields = {name: value for name, value in batch.items() if name != LABELS}
    whole = flops(design_of(model).build(device="meta").eval(), fields)
    left = flops(_least(model, found), fields)
    return whole[""], {path: (whole[path] - left[path]) / (units.count - 1) for path, units in found.items()}


def within(keep: float, total: float, found: Mapping[str, Units], each: Mapping[str, float]) -> float:
    """What units may cost so that all costs `keep` of the `total`; at least the best unit of every part must fit."""
    if not 0 < keep <= 1:
        raise BadInput(f"keep is a share of the whole, above 0 and at most 1; given {keep}")
    rest = total - sum(each[path] * units.count for path, units in found.items())
    least = rest + sum(each[path] for path in found)
    if keep * total < least * (1 - ROUNDING):
        raise BadInput(f"with one unit of every part {least / total:.3f} of the whole is left; given keep={keep}")
    return keep * total - rest


def allocate(
    scores: Scores, each: Mapping[str, float], found: Mapping[str, Units], budget: float
) -> dict[str, list[int]]:
    """The units that stay: of each kind those with the highest scores, and so many heads, what is left of the budget
    going to hidden units, that the sum of all scores is the largest (Khaki and Plataniotis, OPTIN, 2024, their code).

    `each` is what one unit of a part costs. The best unit of every part stays in any case.
    """
    budget *= 1 + ROUNDING
    ranked: dict[str, list[_Ranked]] = {units.name: [] for units in found.values()}
    for path, units in found.items():
        ranked[units.name] += _ranked(path, scores[path])
    first, second = [*(sorted(units, reverse=True) for _, units in sorted(ranked.items())), []][:2]
    must = sum(unit[0] for unit in second)
    spent = [*accumulate((each[unit[2]] for unit in second), initial=0.0)]
    gained = [*accumulate((unit[1] for unit in second), initial=0.0)]
    chosen, most, cost, worth = (0, 0), -float("inf"), 0.0, 0.0
    for count, unit in enumerate(first, 1):
        cost, worth = cost + each[unit[2]], worth + unit[1]
        others = _fitting(spent, budget - cost)
        if count >= sum(unit[0] for unit in first) and others >= must and worth + gained[others] > most:
            chosen, most = (count, others), worth + gained[others]
    return _kept(scores, [*first[: chosen[0]], *second[: chosen[1]]])


def leading(scores: Scores, each: Mapping[str, float], budget: float) -> dict[str, list[int]]:
    """The units with the highest scores of all that fit a budget, and the best of every part."""
    ranked = sorted((unit for path, worth in scores.items() for unit in _ranked(path, worth)), reverse=True)
    spent = [*accumulate((each[unit[2]] for unit in ranked), initial=0.0)]
    return _kept(scores, ranked[: _fitting(spent, budget * (1 + ROUNDING))])


_Ranked = tuple[bool, float, str, int]
"""Whether it is the best of its part, its score, the part and its number there."""


def _ranked(path: str, scores: Tensor) -> list[_Ranked]:
    best = int(scores.argmax())
    return [(i == best, worth, path, i) for i, worth in enumerate(scores.tolist())]


def _fitting(spent: list[float], budget: float) -> int:
    """How many of the first units a budget is enough for, given what each number of them costs."""
    return bisect_right(spent, budget) - 1


def _kept(scores: Scores, units: list[_Ranked]) -> dict[str, list[int]]:
    kept: dict[str, list[int]] = {path: [] for path in scores}
    for _, _, path, unit in units:
        kept[path].append(unit)
    return {path: sorted(chosen) for path, chosen in kept.items()}


def sliced(model: nn.Module, kept: Mapping[str, list[int]]) -> nn.Module:
    """A copy of a model, for use, with these units alone."""
    return keep(copy.deepcopy(model).eval(), kept)


def narrowed(model: nn.Module, kept: Sequence[int]) -> nn.Module:
    """A copy of a model, for use, with these dimensions alone of what its blocks hand on; heads and hidden units stay as many.

    A norm takes its statistics from the dimensions that stay.
    """
    design, theirs = design_of(model), model.state_dict()
    width = design.get("width")
    for path, each in design.walk():
        units = [part.units() for _, _, part in parts_at(model, path) if isinstance(part, Part)]
        if units and units[0] is not None:
            design = design.swap(path, each.but(**units[0].of(units[0].count)))
    made: nn.Module = design.set("width", len(kept)).build().eval()
    with torch.no_grad():
        for name, mine in made.state_dict().items():
            mine.copy_(_narrow(theirs[name], mine, width, kept, name))
    return made.to(next(model.parameters()).device)


def _narrow(given: Tensor, wanted: Tensor, width: int, kept: Sequence[int], name: str) -> Tensor:
    """A tensor with the dimensions that stay, along each axis that is another in the narrower model."""
    if given.dim() != wanted.dim():
        raise DoesNotFit("it has other axes in a narrower model, which cannot take its weights", name)
    index = torch.tensor(list(kept), device=given.device)
    for axis, (old, new) in enumerate(zip(given.shape, wanted.shape, strict=True)):
        if old != new and (old, new) != (width, len(kept)):
            raise DoesNotFit(f"{old} of its numbers would be {new}, and no width of {width} is cut there", name)
        given = given if old == new else given.index_select(axis, index)
    return given


def stream_norms(model: nn.Module, width: int) -> list[nn.Module]:
    """The norms of what blocks hand on, those inside of mixers and feedforwards left out."""
    inside = {each for part in model.modules() if isinstance(part, (Mixer, FeedForward)) for each in part.modules()}
    return [
        each
        for each in model.modules()
        if isinstance(each, Norm) and each not in inside and getattr(each, "weight", torch.empty(0)).shape == (width,)
    ]


@contextmanager
def scaled(norms: Iterable[nn.Module], gates: Float[Tensor, " D"]) -> Iterator[None]:
    """What these norms give times a gate for each dimension, for a while."""
    handles = [each.register_forward_hook(lambda _, __, values: values * gates.to(values)) for each in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
