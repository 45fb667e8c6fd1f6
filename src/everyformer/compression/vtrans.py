"""VTrans (Dutta et al., 2024): units whose noise drowns them under a variational information bottleneck."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.calibration import Calibration, labelled
from everyformer.compression.structures import gated, leading, prunable, sliced, within, work
from everyformer.designs import parts_at
from everyformer.errors import BadInput
from everyformer.objectives.base import Objective
from everyformer.registry import method
from everyformer.units import Units

SHARP = 10.0
"""How sharply a unit counts as kept or gone while the gates are trained."""
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
        """How far each counts as kept, 0 to 1."""
        return (-SHARP * self.drowned()).sigmoid()


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
    lr: float = 0.03,
    strength: float = 1e-4,
    seed: int = 0,
    paths: str = "**.blocks.**",
) -> nn.Module:
    """A copy of the model with `keep` of its FLOPs, its weights as they were but for the gates that they take over.

    The gates alone are trained, as in Faster-VTrans, for `steps` batches in turn: the loss, `strength` times what the gates
    let through, and a Lagrangian that holds the FLOPs of the units kept to a budget which falls to `keep` in the first half.
    The units of a budget are then the least drowned, at least one of every part. Tune the copy to make up for the rest.
    """
    if steps < 1:
        raise BadInput(f"the gates are trained for at least one step; given {steps}")
    found, batches = prunable(model, paths), labelled(calibration, model)
    total, each = work(model, found, batches[0])
    budget = within(keep, total, found, each)
    size = Size({path: cost / total for path, cost in each.items()}, keep - budget / total)
    gates = trained(model, batches, objective, found, size, keep=keep, steps=steps, lr=lr, strength=strength, seed=seed)
    with torch.no_grad():
        kept = leading({path: -gate.drowned() for path, gate in gates.items()}, each, budget)
    made = sliced(model, kept)
    for path, gate in gates.items():
        _take_over(made, path, gate.mean.detach()[kept[path]])
    return made


@dataclass(frozen=True)
class Size:
    """The share of the whole that one unit of each part takes, and that of all but units."""

    each: Mapping[str, float]
    rest: float

    def left(self, gates: Mapping[str, Noisy]) -> Tensor:
        """The share that is left, so far as units count as kept."""
        return self.rest + torch.stack([self.each[path] * gate.kept().sum() for path, gate in gates.items()]).sum()


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
) -> dict[str, Noisy]:
    """The gates after training, the price of what is over the budget rising as they are not within it."""
    gates, generator = {path: Noisy(units.count) for path, units in found.items()}, torch.Generator().manual_seed(seed)
    price = torch.zeros(2, requires_grad=True)
    learnt = [p for gate in gates.values() for p in gate.parameters()]
    adam = torch.optim.Adam([{"params": learnt}, {"params": [price], "maximize": True}], lr)
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for step in range(steps):
        with gated(made, {path: gate(generator) for path, gate in gates.items()}):
            loss = objective(made, batches[step % len(batches)])
        over = size.left(gates) - (1 - (1 - keep) * min(1.0, 2 * (step + 1) / steps))
        through = torch.stack([gate.information() for gate in gates.values()]).sum()
        adam.zero_grad()
        (loss.total / loss.count + strength * through + price[0] * over + price[1] * over.square()).backward()
        adam.step()
    return gates


@torch.no_grad()
def _take_over(made: nn.Module, path: str, gates: Float[Tensor, " U"]) -> None:
    """Put the gates of the units of a part into the weights that read them."""
    for _, _, part in parts_at(made, path):
        units: Units = part.units()  # type: ignore[operator]
        weight = getattr(part, units.output).weight
        weight[:, units.inputs] *= gates.to(weight)[:, None]
