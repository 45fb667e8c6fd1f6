"""Spiking neurons: they leak, fire and begin again, one token a time step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def spikes(
    current: Float[Tensor, "B N C"], *, leak: float = 2.0, threshold: float = 1.0, slope: float = 4.0
) -> Float[Tensor, "B N C"]:
    """Leaky integrate-and-fire neurons: v += (x - v) / leak; 1 where v reaches the threshold, where it begins again at 0.

    The gradient of a spike is that of sigmoid(slope (v - threshold)), and none passes the new beginning (Neftci et al., 2019).
    """
    charge = torch.zeros_like(current[:, 0])
    fired = []
    for each in current.unbind(1):
        charge = charge + (each - charge) / leak
        soft = (slope * (charge - threshold)).sigmoid()
        spike = soft + ((charge >= threshold).to(soft.dtype) - soft).detach()
        charge = charge * (1 - spike.detach())
        fired.append(spike)
    return torch.stack(fired, 1)


class Firing(nn.Module):
    """A batch norm, then spikes; its shift begins at the threshold, so that neurons fire before they have learnt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        nn.init.ones_(self.norm.bias)

    def forward(self, current: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """0 and 1."""
        return spikes(self.norm(current.flatten(0, 1)).view_as(current))
