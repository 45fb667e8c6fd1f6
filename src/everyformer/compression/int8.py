"""A linear map in whole numbers of 8 bits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.grid import fit
from everyformer.contracts import LinearMap
from everyformer.registry import part


@part("compression")
class Int8(LinearMap):
    """W x + b with each token and each output of W rounded to 8 bits, multiplied as whole numbers (LLM.int8, 2022, eq. 4).

    The scale of a token is found as it comes, so nothing is calibrated. Where a gradient with respect to the input is
    asked for, it is the map with the rounded weight and the input as it is.
    """

    learns = False
    codes: Tensor
    scale: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.inherit(nn.Linear(inputs, outputs, bias))

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        return self.codes.to(self.scale.dtype) * self.scale[:, None]

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """Each weight as the nearest value of the grid of its output."""
        grid = fit(weight, 8, "channel", symmetric=True)
        self.codes.copy_(grid.codes(weight))
        self.scale.copy_(grid.scale[:, 0])

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        if values.requires_grad:
            return F.linear(values, self.weight, self.bias)
        step = values.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        codes = (values / step).round()
        if values.device.type == "cpu" and not torch.compiler.is_exporting():
            whole = torch._int_mm(codes.flatten(0, -2).to(torch.int8), self.codes.T).unflatten(0, values.shape[:-1])
        else:
            whole = F.linear(codes, self.codes.to(codes.dtype))
        mapped = (whole * (step * self.scale)).to(values.dtype)
        return mapped if self.bias is None else mapped + self.bias
