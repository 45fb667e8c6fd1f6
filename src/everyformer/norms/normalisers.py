"""Norms of each token by its own statistics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.contracts import Norm
from everyformer.registry import part


@part("norms")
class LayerNorm(Norm):
    """(x - mean) / sqrt(var + eps), scaled and shifted per channel (Ba et al., 2016, equation 4)."""

    def __init__(self, width: int, *, eps: float = 1e-5, bias: bool = True, affine: bool = True) -> None:
        super().__init__()
        self.shape, self.eps = (width,), eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine and bias else None

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Normalised values."""
        return F.layer_norm(values, self.shape, self.weight, self.bias, self.eps)


@part("norms")
class RMSNorm(Norm):
    """x / sqrt(mean(x^2) + eps), scaled per channel (Zhang and Sennrich, 2019, equation 4).

    `offset` is added to the scale, which then starts at zero (Gemma has 1).
    """

    def __init__(self, width: int, *, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        self.shape, self.eps, self.offset = (width,), eps, offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Normalised values."""
        weight = self.weight + self.offset if self.offset else self.weight
        return F.rms_norm(values, self.shape, weight, self.eps)


@part("norms")
class Identity(Norm):
    """No norm."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The values as they are."""
        return values


@part("norms")
class SampleNorm(Norm):
    """(x - mean) / sqrt(var + eps) over all tokens and channels of a sample, scaled and shifted per channel: group norm
    of one group (Wu and He, 2018, equation 1; Yu et al., PoolFormer, 2022, table 5).
    """

    capabilities = frozenset()
    together = True

    def __init__(self, width: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, values: Float[Tensor, "B *n D"]) -> Float[Tensor, "B *n D"]:
        """Normalised values."""
        normed = F.layer_norm(values, values.shape[1:], eps=self.eps) * self.weight
        return normed if self.bias is None else normed + self.bias


@part("norms")
class BatchNorm(Norm, nn.BatchNorm1d):
    """(x - mean) / sqrt(var + eps) per channel over all real tokens of a batch, scaled and shifted; in use by running
    figures (Ioffe and Szegedy, 2015, algorithm 1).
    """

    counts = True
    capabilities = frozenset()

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(width, eps=eps, momentum=momentum)

    def forward(  # type: ignore[override]
        self, values: Float[Tensor, "*b D"], mask: Bool[Tensor, "*b"] | None = None
    ) -> Float[Tensor, "*b D"]:
        """Normalised values; only tokens of the mask count for the statistics, and the others become zero in training."""
        if not self.training and values.dtype == self.weight.dtype:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            return torch.addcmul(self.bias - self.running_mean * scale, values, scale)
        if mask is None or not self.training:
            return super().forward(values.flatten(0, -2)).view_as(values)
        normed = torch.zeros_like(values)
        normed[mask] = super().forward(values[mask])
        return normed
