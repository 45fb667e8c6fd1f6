"""Normalisation of a raw series that is undone on the answer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.registry import Part, part


@part("norms")
class ReversibleInstance(Part):
    """Each series less its mean over the look-back, over its deviation; undone on the forecast (Kim et al., RevIN, 2022).

    Without the learned affine map, as Liu et al. (iTransformer, 2024) use it.
    """

    def __init__(self, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, series: Float[Tensor, "B T C"]) -> tuple[Float[Tensor, "B T C"], tuple[Tensor, Tensor]]:
        """The normalised series, and what `restore` needs."""
        mean = series.mean(1, keepdim=True)
        centred = series - mean
        deviation = torch.sqrt(centred.var(1, keepdim=True, unbiased=False) + self.eps)
        return centred / deviation, (mean.detach(), deviation.detach())

    def restore(self, answer: Float[Tensor, "B S C"], kept: tuple[Tensor, Tensor]) -> Float[Tensor, "B S C"]:
        """A forecast in the units of the input."""
        mean, deviation = kept
        return answer * deviation + mean
