"""Linear maps of low rank."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import LinearMap
from everyformer.registry import part


@part("compression")
class LowRank(LinearMap):
    """U V x + b with `rank` columns in U: of a trained map the best in squared error (Eckart and Young, 1936)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, rank: int = 8) -> None:
        super().__init__(inputs, outputs, bias)
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(
                f"the rank of a map from {inputs} to {outputs} is 1 to {min(inputs, outputs)}; given {rank}"
            )
        self.rank = rank
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        return self.up.weight @ self.down.weight

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """The largest singular values, shared evenly between the two factors."""
        left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
        root = values[: self.rank].sqrt()
        self.up.weight.copy_(left[:, : self.rank] * root)
        self.down.weight.copy_(root[:, None] * right[: self.rank])

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        mapped = self.up(self.down(values))
        return mapped if self.bias is None else mapped + self.bias
