"""VTrans (Dutta et al., 2024): units whose noise drowns them under a variational information bottleneck."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.calibration import Calibration, labelled
from everyformer.compression.structures import (
    damped,
    gated,
    layers_among,
    leading,
    narrowed,
    prunable,
    scaled,
    sliced,
    stream_norms,
    units_at,
    within,
    work,
)  # fmt: skip
from everyformer.designs import design_of, parts_at
from everyformer.edits import remove
from everyformer.errors import BadInput
from everyformer.objectives.base import Objective
from everyformer.registry import method
from everyformer.specs import signature
from everyformer.units import Units

TINY = 1e-8


class Noisy(nn.Module):
    """Gates mu + sigma eps, eps of a standard normal distribution: one for each unit (Dai et al., VIBNet, 2018)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.ones(count))
        self.log_variance = nn.Parameter(torch.full((count,), -9.0))

    def forward(self, generator: torch.Generator | None = None) -> Float[Tensor, " U"]:
        """One draw."""
        noise = torch.randn(self.mean.shape, generator=generator)
        return self.mean + (self.log_variance / 2).exp() * noise

    def drowned(self) -> Float[Tensor, " U"]:
        """log(sigma^2 / mu^2): above 0 there is more noise than unit."""
        return self.log_variance - (self.mean.square() + TINY).log()

    def information(self) -> Float[Tensor, ""]:
        """1/2 sum log(1 + mu^2 / sigma^2), what all of them let through at most (VIBNet's closed form)."""
        return (1 + self.mean.square() / (self.log_variance.exp() + TINY)).log().sum() / 2

    def kept(self) -> Float[Tensor, " U"]:
        """How far each counts as kept while the gates are trained: mu^2 / (mu^2 + sigma^2)."""
        return (-self.drowned()).sigmoid()


@method(
    "vtrans",
    title="VTrans: Accelerating Transformer Compression with Variational Information Bottleneck based Pruning",
    authors="Dutta et al.",
    year=2024,
    arxiv="2406.05276",
    idea="Multiply every unit by a noisy gate that is trained to let little through, and leave out those that the noise drowns.",
)
def vtrans(
    model: nn.Module,
    calibration: Calibration,
    objective: Objective,
    *,
    keep: float = 0.5,
    steps: int = 200,
    lr: float = 0.1,
    strength: float = 1e-2,
    seed: int = 0,
    paths: str = "**.blocks.**",
) -> nn.Module:
    """A copy of the model with `keep` of its FLOPs, its weights as they were but for the gates that they take over.

    Gated are units, whole mixers and feedforwards of blocks, and the dimensions that blocks hand on, these in every norm alike.
    The gates alone are trained, as in Faster-VTrans, for `steps` batches in turn: the loss, `strength` times what the gates let
    through, and a Lagrangian that holds the FLOPs of what is kept to a budget which falls to `keep` in the first half. A layer
    that is drowned goes, and its norm with it; so do drowned dimensions. Of what is left the units of the budget are the least
    drowned, at least one of every part. Tune the copy to make up for the rest.
    The paper's loss also distils from the whole model: give `objectives.Distillation`, taught, for that.
    """
    if steps < 1:
        raise BadInput(f"the gates are trained for at least one step; given {steps}")
    found, batches = prunable(model, paths), labelled(calibration, model)
    total, each = work(model, found, batches[0])
    budget = within(keep, total, found, each)
    size = Size({path: cost / total for path, cost in each.items()}, keep - budget / total)
    gates = trained(model, batches, objective, found, size, keep=keep, steps=steps, lr=lr, strength=strength, seed=seed)
    return without_drowned(model, gates, batches[0], keep * total)


@torch.no_grad()
def without_drowned(model: nn.Module, gates: Gates, batch: Mapping[str, Tensor], most: float) -> nn.Module:
    """A copy of the model without the drowned layers and dimensions, with the units that fit `most` FLOPs for this batch, the
    means of the gates in its weights.
    """
    made = copy.deepcopy(model).eval()
    if gates.width is not None:
        for norm in stream_norms(made, len(gates.width.mean)):
            _scale(norm, gates.width.mean)
        stays = (gates.width.drowned() <= gates.width.drowned().min().clamp(min=0)).nonzero()[:, 0].tolist()
        made = narrowed(made, stays) if len(stays) < len(gates.width.mean) else made
    gone = [path for path, gate in gates.layers.items() if gate.drowned() > 0]
    for path in gone:
        remove(made, path)
    left = {path: gate for path, gate in gates.units.items() if path not in gone}
    total, each = work(made, {path: units_at(made, path) for path in left}, batch)
    budget = most - total + sum(each[path] * len(gate.mean) for path, gate in left.items())
    kept = leading({path: -gate.drowned() for path, gate in left.items()}, each, budget)
    made = sliced(made, kept)
    for path, gate in left.items():
        _take_over(made, path, gate.mean[kept[path]])
        if path in gates.layers:
            _damp(made, path, gates.layers[path].mean)
    return made


@dataclass(frozen=True)
class Gates:
    """The gates of the units of each part, of the parts that are layers of a block, and of the dimensions that norms give."""

    units: Mapping[str, Noisy]
    layers: Mapping[str, Noisy]
    width: Noisy | None = None

    @property
    def all(self) -> list[Noisy]:
        """Every one."""
        return [*self.units.values(), *self.layers.values(), *([] if self.width is None else [self.width])]

    @contextmanager
    def drawn(self, model: nn.Module, generator: torch.Generator) -> Iterator[None]:
        """The model under one draw of all of them."""
        units = {path: gate(generator) for path, gate in self.units.items()}
        layers = {path: gate(generator)[0] for path, gate in self.layers.items()}
        wide = torch.ones(1) if self.width is None else self.width(generator)
        with gated(model, units), damped(model, layers), scaled(stream_norms(model, len(wide)), wide):
            yield


@dataclass(frozen=True)
class Size:
    """The share of the whole that one unit of each part takes, and that of all but units."""

    each: Mapping[str, float]
    rest: float

    def left(self, gates: Gates) -> Tensor:
        """The share that is left, so far as units, the layers that they are in and the width count as kept."""
        shares = [
            self.each[path] * gate.kept().sum() * (gates.layers[path].kept().sum() if path in gates.layers else 1)
            for path, gate in gates.units.items()
        ]
        wide = 1.0 if gates.width is None else gates.width.kept().mean()
        return wide * (self.rest + torch.stack(shares).sum())


def trained(
    model: nn.Module,
    batches: list[dict[str, Tensor]],
    objective: Objective,
    found: Mapping[str, Units],
    size: Size,
    *,
    keep: float,
    steps: int,
    lr: float,
    strength: float,
    seed: int = 0,
) -> Gates:
    """The gates after training, the price of what is over the budget rising as they are not within it."""
    gates = Gates(
        {path: Noisy(units.count) for path, units in found.items()},
        {path: Noisy(1) for path in layers_among(model, found)},
        wide(model),
    )
    generator, price = torch.Generator().manual_seed(seed), torch.zeros(2, requires_grad=True)
    learnt = [p for gate in gates.all for p in gate.parameters()]
    adam = torch.optim.Adam([{"params": learnt}, {"params": [price], "maximize": True}], lr)
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for step in range(steps):
        with gates.drawn(made, generator):
            loss = objective(made, batches[step % len(batches)])
        over = size.left(gates) - (1 - (1 - keep) * min(1.0, 2 * (step + 1) / steps))
        through = torch.stack([gate.information() for gate in gates.all]).sum()
        adam.zero_grad()
        (loss.total / loss.count + strength * through + price[0] * over + price[1] * over.square()).backward()
        adam.step()
    return gates


def wide(model: nn.Module) -> Noisy | None:
    """The gates of the width, where a model has one and norms of it."""
    design = design_of(model)
    width = design.get("width") if "width" in signature(design.spec.part) else 0
    return Noisy(width) if stream_norms(model, width) else None


def _scale(norm: nn.Module, gates: Float[Tensor, " D"]) -> None:
    """Put the gates of the width into what a norm multiplies by and adds."""
    offset: Any = getattr(norm, "offset", 0.0)
    for each, start in ((norm.weight, offset), (getattr(norm, "bias", None), 0.0)):
        if isinstance(each, Tensor):
            each.add_(start).mul_(gates.to(each)).sub_(start)


def _take_over(made: nn.Module, path: str, gates: Float[Tensor, " U"]) -> None:
    """Put the gates of the units of a part into the weights that read them."""
    for _, _, part in parts_at(made, path):
        units = part.units()  # type: ignore[operator]
        weight = getattr(part, units.output).weight
        weight[:, units.inputs] *= gates.to(weight)[:, None]


def _damp(made: nn.Module, path: str, gate: Float[Tensor, " 1"]) -> None:
    """Put the gate of a whole layer into the map that it ends with."""
    for _, _, part in parts_at(made, path):
        output = getattr(part, part.units().output)  # type: ignore[operator, union-attr]
        for each in output.parameters():
            each *= gate.to(each)
