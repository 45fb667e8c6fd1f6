"""Means of a model's weights over training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from everyformer.training.shards import like


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; tied ones once, under their first name."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: tensor.clone() for name, tensor in weights(model).items()}


@torch.no_grad()
def put(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Set the weights."""
    for name, tensor in weights(model).items():
        tensor.copy_(like(values[name], tensor))


@contextmanager
def holding(model: nn.Module, values: dict[str, Tensor] | None) -> Iterator[None]:
    """The model with other weights for a while (None: its own)."""
    if values is None:
        yield
        return
    own = copy_of(model)
    put(model, values)
    try:
        yield
    finally:
        put(model, own)


class Exponential:
    """Mean of the weights after each step, the last ones counting most; what is not a number with a point is copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.values = decay, copy_of(model)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Take the weights in after step `step` (from 0); early on the mean forgets faster: (1 + t) / (10 + t)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in weights(model).items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)

    def at_evaluation(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """What is evaluated."""
        return self.values

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return dict(self.values)

    def load(self, held: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for name, value in held.items():
            self.values[name].copy_(like(value, self.values[name]))


class LastMeans:
    """Mean of the weights at the last evaluations (Vaswani et al., 2017, section 6.1 average checkpoints so)."""

    def __init__(self, model: nn.Module, count: int) -> None:
        self.count = count
        self.kept: dict[int, dict[str, Tensor]] = {}

    def after_step(self, model: nn.Module, step: int) -> None:
        """Only evaluations count."""

    @torch.no_grad()
    def at_evaluation(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Take the weights in, and give the mean that is evaluated."""
        self.kept[step] = copy_of(model)
        for old in sorted(self.kept)[: -self.count]:
            del self.kept[old]
        means = {}
        for name, now in self.kept[step].items():
            if now.is_floating_point():
                means[name] = torch.stack([held[name].double() for held in self.kept.values()]).mean(0).to(now.dtype)
            else:
                means[name] = now
        return means

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return {f"{step}/{name}": value for step, held in self.kept.items() for name, value in held.items()}

    def load(self, held: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.kept = {}
        for key in sorted(held, key=lambda k: int(k.partition("/")[0])):
            step, _, name = key.partition("/")
            self.kept.setdefault(int(step), {})[name] = held[key]


Average = Exponential | LastMeans
