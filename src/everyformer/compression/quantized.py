"""A linear map whose weight is kept in few bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.grid import Grid, bytes_of, check, count_groups, fit, pack, unpack
from everyformer.compression.inputs import InputGrid
from everyformer.contracts import LinearMap
from everyformer.registry import part
from everyformer.specs import Spec

FEW = 32
"""Rows up to which a kernel that reads packed weights is faster than unpacking them."""


@part("compression")
class Quantized(LinearMap):
    """W x + b with W in `bits` a number, packed; `group` says which of its weights share a scale (see `Group`).

    `rounded` rounds what comes in as well. It takes over a map by rounding each weight to the nearest value of its grid.
    In bfloat16 on a processor few rows at a time are multiplied with the packed weight itself, in 8 bits (symmetric, by
    channel) and in 4 (not symmetric, in groups of 32, 64, 128 or 256); else the weight is unpacked first.
    """

    learns = False
    codes: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        bits: int = 4,
        group: int | str = 128,
        symmetric: bool = False,
        rounded: Spec[InputGrid] | None = None,
    ) -> None:
        check(bits, group)
        super().__init__(inputs, outputs, bias)
        self.bits, self.group, self.symmetric = bits, group, symmetric
        rows, groups = count_groups(group, inputs, outputs)
        self.register_buffer("codes", torch.zeros(outputs, bytes_of(bits, inputs), dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(rows, groups))
        whole = torch.uint8 if bits <= 8 else torch.int32
        self.register_buffer("zero", None if symmetric else torch.zeros(rows, groups, dtype=whole))
        self.rounded: InputGrid | None = self.make("rounded", rounded, inputs)
        self._reordered: tuple[Tensor, int, Tensor, Tensor] | None = None
        self.inherit(nn.Linear(inputs, outputs, bias))

    @property
    def grid(self) -> Grid:
        """The grid of the weight, group by group."""
        return Grid(self.scale, self.zero, self.bits)

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The map that it is."""
        codes = unpack(self.codes, self.bits, self.in_features, signed=self.symmetric)
        return self.grid.of_groups(codes, self.group)

    @torch.no_grad()
    def put(self, codes: Tensor, grid: Grid) -> None:
        """Set the weight to these codes (E, D) of this grid of groups."""
        self.codes.copy_(pack(codes, self.bits))
        self.grid.put(grid)

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """Round a weight to the nearest values."""
        grid = fit(weight, self.bits, self.group, symmetric=self.symmetric)
        self.put(grid.columns(self.group, self.in_features).codes(weight), grid)

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        if self.rounded is not None:
            values = self.rounded(values)
        kernel = self._kernel(values)
        if kernel is None:
            return F.linear(values, self.weight, self.bias)
        mapped = kernel(values.flatten(0, -2)).unflatten(0, values.shape[:-1])
        return mapped if self.bias is None else mapped + self.bias

    def _kernel(self, values: Tensor) -> Callable[[Tensor], Tensor] | None:
        """What multiplies these values with the packed weight, where there is something that does."""
        if values.dtype is not torch.bfloat16 or values.device.type != "cpu" or values.numel() > FEW * self.in_features:
            return None
        if values.requires_grad or torch.compiler.is_compiling():
            return None
        if self.bits == 8 and self.symmetric and self.group == "channel":
            return lambda rows: torch.ops.aten._weight_int8pack_mm(rows, self.codes.view(torch.int8), self.scale[:, 0])
        if self.bits == 4 and self.group in (32, 64, 128, 256) and self.zero is not None:
            if self.in_features % self.group or self.in_features % 2 or self.out_features % 16:  # type: ignore[operator]
                return None
            weight, grid = self._four_bits()
            return lambda rows: torch.ops.aten._weight_int4pack_mm_for_cpu(rows, weight, self.group, grid)
        return None

    def _four_bits(self) -> tuple[Tensor, Tensor]:
        """The weight in the order that the kernel of this processor reads, made once: (code - 8) * scale + shift."""
        held = self._reordered
        if held is None or held[0] is not self.codes or held[1] != self.codes._version:
            codes = unpack(self.codes, 4, self.in_features).to(torch.int32)
            shift = (8 - self.zero.to(self.scale.dtype)) * self.scale
            grid = torch.stack((self.scale, shift), -1).transpose(0, 1).contiguous()
            weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
            held = self._reordered = self.codes, self.codes._version, weight, grid
        return held[2], held[3]

    def extra_repr(self) -> str:
        """Sizes, bits and what shares a scale."""
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group={self.group!r}, symmetric={self.symmetric}"
