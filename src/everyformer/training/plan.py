"""What a training will take, before it is begun: memory, FLOPs, time, and how many devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.contracts import Backbone
from everyformer.costs import on_meta, parameters
from everyformer.designs import Design
from everyformer.devices import Device
from everyformer.errors import BadInput, DoesNotFit
from everyformer.objectives.base import Loss, Objective, answer
from everyformer.objectives.cross_entropy import cross_entropy
from everyformer.recipe import Recipe, Training
from everyformer.training.footprint import StepCost, step_cost
from everyformer.training.order import order_of, steps_of
from everyformer.training.shards import blocks_of

ROOM = 0.9
"""The share of a device's memory that tensors may take: kernels, buffers of communication and fragments have the rest."""
STRATEGIES = ("ddp", "fsdp")
_MOST = 2**20
_COUNTED = 2**12
"""Tokens up to which a batch is counted as it is; of more, as two smaller ones grow."""


@dataclass(frozen=True)
class Work:
    """What is trained: a design, its objective, `sample(n)` that gives a batch of n, and how."""

    design: Design
    objective: Objective
    sample: Callable[[int], Mapping[str, Tensor]]
    training: Training
    samples: int
    """Samples in a step of all devices."""
    steps: int | None = None
    """Steps of the whole training, where it is known."""
    precision: str = "bf16"


@dataclass(frozen=True)
class Spread:
    """One way to spread a training over devices: bytes of each, and what it costs to keep them in step."""

    strategy: str
    cost: StepCost
    weights: float
    gradients: float
    optimizer: float
    peak: float
    """The most that a device has alive at once."""
    seconds: float
    """What a device takes in from the others in a step, at the speed of its links."""


@dataclass(frozen=True)
class TrainingPlan:
    """A training on so many devices."""

    device: Device
    devices: int
    parameters: int
    tokens: int
    """Tokens in a sample."""
    samples: int
    flops: int
    """FLOPs of a sample, forward and backward."""
    forward_flops: int
    seconds: float
    """A step at the stated utilisation."""
    steps: int | None
    spreads: list[Spread]
    needed: int | None
    """The fewest devices, a power of two, that have room with everything sharded."""
    precision: str = field(default="bf16")

    def fits(self, spread: Spread) -> bool:
        """Whether a device has room."""
        return spread.peak <= ROOM * self.device.memory


class Labelled(Objective):
    """Cross entropy of what a model answers with fixed labels: what a design costs whose data is not known."""

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss over all that the answer's last dimension classifies."""
        given = answer(model, batch)
        logits = given.values if hasattr(given, "values") and not isinstance(given, Tensor) else given
        flat = logits.flatten(0, -2) if logits.dim() > 1 else logits[None]
        labels = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        return Loss(cross_entropy(flat, labels), torch.tensor(float(len(flat)), device=flat.device))


def of_design(
    design: Design, *, samples: int, length: int | None, training: Training, precision: str | None = None
) -> Work:
    """The work of a design on inputs like its example; `length` is that of text."""
    from everyformer.training.optimizers import common_width
    from everyformer.training.precision import choose

    model = on_meta(design)
    precision = precision or choose(training.precision, common_width(model)).name
    example = model.example()
    if length is not None:
        if example["inputs"].dim() != 2 or example["inputs"].is_floating_point():
            raise BadInput("a length is that of text, and this design takes other inputs")
        example = {
            name: value[:, :1].expand(1, length) if value.dim() == 2 else value for name, value in example.items()
        }

    def sample(count: int) -> dict[str, Tensor]:
        return {name: value.to("meta").expand(count, *value.shape[1:]) for name, value in example.items()}

    return Work(design, Labelled(), sample, training, samples, training.steps, precision)


def of_recipe(recipe: Recipe, precision: str | None = None) -> Work:
    """The work of a recipe, on samples of middling length of its own data."""
    import numpy as np

    from everyformer.data import find_task
    from everyformer.training.designing import design_for, objective_for
    from everyformer.training.optimizers import common_width
    from everyformer.training.precision import choose
    from everyformer.training.starting import completed

    recipe = completed(recipe)
    training = recipe.training
    task = find_task(recipe.task).open(**recipe.data)
    design = design_for(recipe.design, task.facts)
    costs = task.costs("train")
    middle = 0 if costs is None else int(np.argsort(costs, kind="stable")[len(costs) // 2])
    order = order_of(task.size("train"), costs, training, task.lanes)
    samples = math.ceil(task.size("train") / order.steps_per_epoch)
    return Work(
        design, objective_for(task, recipe.objective).build(), lambda n: task.batch("train", [middle] * n, train=True), training,
        samples, steps_of(training, order), precision or choose(training.precision, common_width(on_meta(design))).name,
    )  # fmt: skip


def plan(work: Work, device: Device, *, devices: int = 1, utilisation: float = 0.4) -> TrainingPlan:
    """A training on `devices`, whose arithmetic runs at `utilisation` of what the data sheet says."""
    if devices < 1:
        raise BadInput(f"devices={devices} cannot be; give at least 1")
    if not 0 < utilisation <= 1:
        raise BadInput(f"utilisation={utilisation} cannot be; give a share of the peak, above 0 and at most 1")
    length = tokens(work)
    costs = _costs(work, max(2, _COUNTED // max(length, 1)))
    one = costs(1, False)
    spreads = [_spread(work, each, device, devices, costs) for each in STRATEGIES[: 1 if devices == 1 else 2]]
    return TrainingPlan(
        device, devices, parameters(on_meta(work.design)), length, work.samples, one.flops, one.forward_flops,
        work.samples * one.flops / (devices * device.flops(work.precision) * utilisation), work.steps, spreads,
        _needed(work, device, costs), work.precision,
    )  # fmt: skip


def tokens(work: Work) -> int:
    """The tokens that the backbones of a design see of a sample."""
    model = on_meta(work.design)
    seen: list[int] = []
    outer = [m for m in model.children() if isinstance(m, Backbone)]
    hooks = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].values.shape[1])) for m in outer]
    answer(model, {name: value.to("meta") for name, value in work.sample(1).items()})
    for hook in hooks:
        hook.remove()
    return sum(seen)


Costs = Callable[[int, bool], StepCost]
"""What a step costs on so many samples, with gradients that stay or leave to their shards."""


def _costs(work: Work, most: int) -> Costs:
    """Steps counted on up to `most` samples; what more of them cost grows evenly from half of that on."""

    @lru_cache
    def cost(samples: int, sharded: bool) -> StepCost:
        if samples > most:
            half, whole = cost(most // 2, sharded), cost(most, sharded)
            beyond = (samples - most) / (most - most // 2)
            grown = StepCost(*(round(b + beyond * (b - a)) for a, b in zip(half.values(), whole.values(), strict=True)))
            # Few samples may be at their peak with all gradients there, where many are with all activations.
            return replace(grown, peak=max(grown.peak, grown.weights + grown.optimizer + grown.activations))
        try:
            return step_cost(
                on_meta(work.design), work.objective, work.sample(samples), work.training, precision=work.precision, sharded=sharded
            )  # fmt: skip
        except (RuntimeError, NotImplementedError) as error:
            raise DoesNotFit(
                f"what a step costs cannot be counted without running it: a part looks at its values ({error})"
            ) from error

    return cost


def _spread(work: Work, strategy: str, device: Device, devices: int, costs: Costs) -> Spread:
    local = math.ceil(work.samples / devices / work.training.accumulate)
    cost = costs(local, strategy == "fsdp")
    share = (devices - 1) / devices
    if strategy == "ddp":
        buckets = cost.gradients if devices > 1 else 0
        sent = 2 * cost.gradients * share
        return Spread(
            strategy, cost, cost.weights, cost.gradients, cost.optimizer, cost.peak + buckets, sent / device.link
        )  # fmt: skip
    # Of two blocks the weights are whole at a time, and of one the gradients: those at work and those on their way.
    whole = 3 * _largest_block(work.design)
    held = cost.weights + cost.gradients + cost.optimizer
    sent = (2 * cost.weights + cost.gradients) * share
    peak = held / devices + (cost.peak - cost.weights - cost.optimizer) + whole
    return Spread(
        strategy, cost, cost.weights / devices, cost.gradients / devices, cost.optimizer / devices, peak, sent / device.link
    )  # fmt: skip


def _largest_block(design: Design) -> int:
    return max((sum(p.nbytes for p in block.parameters()) for block in blocks_of(on_meta(design))), default=0)


def _needed(work: Work, device: Device, costs: Costs) -> int | None:
    count = 1
    while count <= _MOST:
        strategy = "fsdp" if count > 1 else "ddp"
        if _spread(work, strategy, device, count, costs).peak <= ROOM * device.memory:
            return count
        count *= 2
    return None


def facts(made: TrainingPlan) -> dict[str, Any]:
    """A plan as plain data."""
    plain = asdict(made)
    for each, spread in zip(plain["spreads"], made.spreads, strict=True):
        each["fits"] = made.fits(spread)
    return plain
