"""Decay with the distance on a grid."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from everyformer.context import Context
from everyformer.positions.rotary import Turned
from everyformer.registry import part


@part("positions")
class ManhattanDecay(Turned):
    """A weight falls by g to the power of the distance along rows and columns (Fan et al., RMT, 2024, equation 4), as
    log g times that distance added to the scores; queries and keys are turned by their place in row-major order.

    g = 1 - 2^(-near - reach h / H) in head h of H. The base of the turning is 10000, both ends of its rates included
    (official code).
    """

    def __init__(self, width: int, heads: int = 1, *, near: float = 2.0, reach: float = 4.0) -> None:
        super().__init__()
        self.turned = width // heads // 2 * 2
        if self.turned < 2:
            raise ValueError(f"a head of width {width // heads} leaves no pair of channels to turn")
        self.decays = tuple(math.log1p(-(2.0 ** (-near - reach * h / heads))) for h in range(heads))
        rates = 10000.0 ** -torch.linspace(0, 1, self.turned // 2, device="cpu", dtype=torch.float64)
        self.rates = tuple(rates.tolist())

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R"]:
        """Place in row-major order times rate; rows are as long as the farthest column."""
        raster = places[..., 0]
        if places.shape[-1] > 1:
            raster = raster * (places[..., 1].amax(-1, keepdim=True) + 1) + places[..., 1]
        return raster[..., None].float() * torch.tensor(self.rates, device=places.device, dtype=torch.float32)

    def bias(
        self,
        query: Float[Tensor, "B H N K"],
        query_places: Shaped[Tensor, "#B N k"],
        key_places: Shaped[Tensor, "#B M k"],
        scale: float,
        context: Context,
    ) -> Float[Tensor, "#B H N M"]:
        """log g times the distance."""
        distance = (query_places[:, :, None] - key_places[:, None]).abs().sum(-1, dtype=torch.float32)
        decays = torch.tensor(self.decays, device=distance.device)
        return (decays[:, None, None] * distance[:, None]).to(query.dtype)
