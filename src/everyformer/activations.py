"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyformer.errors import UnknownName


class StarReLU(nn.Module):
    """s relu(x)^2 + b with s and b learned (Yu et al., MetaFormer Baselines, 2024, equation 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """The activated values."""
        return self.scale * F.relu(x).square() + self.shift


def linear(x: Tensor) -> Tensor:
    """The values as they are."""
    return x


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2 (So et al., Primer, 2021, section 4.1)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor] | type[nn.Module]] = {
    "linear": linear,
    "relu": F.relu,
    "squared_relu": squared_relu,
    "star_relu": StarReLU,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),
    "silu": F.silu,
    "tanh": F.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """An activation by name; one that learns is a module of its own for each part that asks."""
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    found = ACTIVATIONS[name]
    return found() if isinstance(found, type) else found
