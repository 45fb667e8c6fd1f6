"""A linear map of which only some weights are kept."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.grid import pack, unpack
from everyformer.contracts import LinearMap
from everyformer.errors import BadInput
from everyformer.registry import part


@part("compression")
class Sparse(LinearMap):
    """W x + b with the share `keep` of W, and a bit for each weight that says whether it is one of them.

    It keeps the largest, of each output as many. The kept ones can be trained. They are multiplied as a dense matrix,
    so that it saves bytes and no time.
    """

    kept: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, keep: float = 0.5) -> None:
        super().__init__(inputs, outputs, bias)
        if not 0 < keep <= 1:
            raise BadInput(f"a share of the weights is kept, above 0 and at most 1; given keep={keep}")
        self.values = nn.Parameter(torch.zeros(outputs * round(keep * inputs)))
        self.register_buffer("kept", torch.zeros(outputs, -(-inputs // 8), dtype=torch.uint8))
        self.inherit(nn.Linear(inputs, outputs, bias))

    @property
    def mask(self) -> Bool[Tensor, "E D"]:
        """Which weights are kept."""
        return unpack(self.kept, 1, self.in_features).bool()

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        mask = self.mask
        places = mask.flatten().cumsum(0).clamp(min=1) - 1
        return F.embedding(places, self.values[:, None])[:, 0].view(mask.shape).masked_fill(~mask, 0.0)

    @torch.no_grad()
    def put(self, weight: Float[Tensor, "E D"], mask: Bool[Tensor, "E D"]) -> None:
        """Keep these of a weight."""
        self.kept.copy_(pack(mask.to(torch.uint8), 1))
        places = mask.flatten().sort(descending=True, stable=True).indices[: len(self.values)]
        self.values.copy_(weight.flatten()[places])

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """The largest of each output."""
        self.put(weight, largest(weight.abs(), self.values.numel() // self.out_features))


def largest(scores: Float[Tensor, "E D"], count: int) -> Bool[Tensor, "E D"]:
    """Which are among the `count` highest of their row."""
    best = scores.topk(count, dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True)
