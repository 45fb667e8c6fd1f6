"""A trained linear map that stays as it is, and a small one beside it that learns."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.contracts import LinearMap
from everyformer.dropout import Dropout
from everyformer.errors import DoesNotFit
from everyformer.registry import part


@part("compression")
class LoRA(LinearMap):
    """W x + (alpha / rank) U V x + b: W stays, U and V learn, and U begins as zeros (Hu et al., LoRA, 2021, section 4.1).

    It takes over a map as its W, so that at first it is that map. `dropout` is of what V sees.
    """

    base: nn.Parameter

    def __init__(
        self, inputs: int, outputs: int, bias: bool = True, *, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0
    ) -> None:
        super().__init__(inputs, outputs, bias)
        if rank < 1:
            raise ValueError(f"the rank of an adapter is 1 or more; given {rank}")
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.base = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        nn.init.kaiming_uniform_(self.base, a=math.sqrt(5))
        self.dropout = Dropout(dropout) if dropout else None
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)
        self.down.own_init = self.up.own_init = True  # type: ignore[assignment]

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        return self.base + self.scale * (self.up.weight @ self.down.weight)

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """Stand for this matrix, with an adapter that adds nothing yet."""
        self.base.copy_(weight)
        self.up.weight.zero_()

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        seen = values if self.dropout is None else self.dropout(values)
        return F.linear(values, self.base, self.bias) + self.scale * self.up(self.down(seen))

    def extra_repr(self) -> str:
        """Sizes, rank and alpha."""
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, alpha={self.alpha:g}"


def adapters(model: nn.Module) -> dict[str, LoRA]:
    """The adapters of a model by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoRA)}


def train_adapters(model: Any) -> int:
    """Let only the adapters of a model learn, and what its head has to itself; gives how many numbers that are."""
    found = adapters(model)
    if not found:
        raise DoesNotFit("no adapter in the model; put some in: ef.swap(model, PATH, ef.spec(ef.compression.LoRA))")
    model.requires_grad_(False)
    for adapter in found.values():
        adapter.down.requires_grad_(True)
        adapter.up.requires_grad_(True)
    for parameter in head_alone(model).values():
        parameter.requires_grad_(True)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def head_alone(model: Any) -> dict[str, nn.Parameter]:
    """The parameters of a model's head by name, without those that it shares with the rest."""
    named = list(model.named_parameters(remove_duplicate=False))
    rest = {id(p) for name, p in named if not name.startswith("head.")}
    return {name: p for name, p in named if name.startswith("head.") and id(p) not in rest}
