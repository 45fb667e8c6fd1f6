"""The descent that experiments share, where a recipe would say more than the experiment does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.objectives import Objective

Rate = Callable[[int, int], float]
"""The share of the learning rate at a step of so many steps."""


def constant(step: int, steps: int) -> float:
    """All of it."""
    return 1.0


def warmed(warmup: int) -> Rate:
    """Up over `warmup` steps, and down to nothing over all of them."""
    return lambda step, steps: min(1.0, (step + 1) / warmup) * (1 - step / steps)


def held(warmup: int) -> Rate:
    """Up over `warmup` steps, whole until half of them are done, then down to nothing."""
    return lambda step, steps: min(1.0, (step + 1) / warmup, 2 * (steps - step) / steps)


@torch.enable_grad()
def descend(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    *,
    lr: float,
    rate: Rate = constant,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float | None = None,
) -> nn.Module:
    """AdamW on `loss(step)`; the model, in evaluation mode."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, betas=betas)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(step, steps)
        optimizer.zero_grad()
        loss(step).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return model.eval()


def learn(
    model: nn.Module, objective: Objective, batch: Callable[[int], Mapping[str, Tensor]], steps: int, **options: Any
) -> nn.Module:
    """`descend`, with its options, on what an objective makes of `batch(step)`, by what it counts; the model, in evaluation mode."""

    def loss(step: int) -> Tensor:
        found = objective(model, batch(step))
        return found.total / found.count

    return descend(model, loss, steps, **options)
