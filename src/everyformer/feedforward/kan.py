"""Kolmogorov-Arnold feedforwards: every edge carries a function of one variable that is learned."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import FeedForward
from everyformer.registry import part
from everyformer.tokens import Tokens


class Edges(nn.Module):
    """Base of layers y_j = sum_i phi_ji(x_i): `bases` are the functions that every phi is a sum of."""

    each: ClassVar[int]
    """How many functions of each input there are."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.sum = nn.Linear(inputs * self.each, outputs, bias=bias)

    def bases(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... I E"]:
        """The functions of each input."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        """The sums."""
        return self.sum(self.bases(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype).flatten(-2))


class SplineEdges(Edges):
    """phi(x) = w silu(x) + sum of cubic B-splines on 5 intervals of [-1, 1] (Liu et al., KAN, 2024, equations 2.10, 2.11)."""

    degree, intervals = 3, 5
    each = intervals + degree

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.base = nn.Linear(inputs, outputs, bias=False)

    def bases(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... I E"]:
        """The B-splines, by the recursion of Cox and de Boor; all are zero outside the grid and its margins."""
        step = 2 / self.intervals
        knots = torch.arange(-self.degree, self.intervals + self.degree + 1, device=x.device).to(x.dtype) * step - 1
        x = x[..., None]
        found = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            rising = (x - knots[: -k - 1]) / (k * step) * found[..., :-1]
            found = rising + (knots[k + 1 :] - x) / (k * step) * found[..., 1:]
        return found

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        """The sums."""
        return self.base(F.silu(x)) + super().forward(x)


class RadialEdges(Edges):
    """phi(x) = w silu(x) + sum of Gaussian bumps at 8 places of [-2, 2], of normalised inputs (Li, FastKAN, 2024)."""

    each = 8

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.norm = nn.LayerNorm(inputs)
        self.base = nn.Linear(inputs, outputs)

    def bases(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... I E"]:
        """The bumps, as wide as they stand apart."""
        places = torch.linspace(-2, 2, self.each, device=x.device, dtype=x.dtype)
        return torch.exp(-(((x[..., None] - places) / (4 / (self.each - 1))) ** 2))

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        """The sums."""
        return super().forward(self.norm(x)) + self.base(F.silu(x))


class SineEdges(Edges):
    """y_j = sum over i, k of a_jik sin(w_k x_i + p_k + q_i) + b_j, the w learned (Reinhardt et al., SineKAN, 2024, eq. 8)."""

    each = 8

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=True)
        self.rates = nn.Parameter(torch.arange(1, self.each + 1) / (self.each + 1))

    def bases(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... I E"]:
        """The sines; the phases are spread evenly over rates and inputs."""
        phases = torch.arange(1, self.each + 1, device=x.device).to(x.dtype) / (self.each + 1)
        shifts = torch.linspace(0, math.pi, x.shape[-1], device=x.device, dtype=x.dtype)
        return torch.sin(x[..., None] * self.rates.to(x.dtype) + phases + shifts[:, None])


class FourierEdges(Edges):
    """y_j = sum over i and k <= 4 of a_jik cos(k x_i) + b_jik sin(k x_i), and a bias (Xu et al., FourierKAN-GCF, 2024)."""

    waves = 4
    each = 2 * waves

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=True)

    def bases(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... I E"]:
        """The cosines and sines."""
        angles = x[..., None] * torch.arange(1, self.waves + 1, device=x.device)
        return torch.cat((angles.cos(), angles.sin()), -1)


class _KAN(FeedForward):
    """Two layers of edges; `hidden`, the width between them, is `ratio` times the width unless given."""

    layer: ClassVar[type[Edges]]

    def __init__(self, width: int, *, hidden: int | None = None, ratio: float = 1.0) -> None:
        super().__init__()
        hidden = int(width * ratio) if hidden is None else hidden
        self.up = self.layer(width, hidden)  # type: ignore[call-arg]
        self.down = self.layer(hidden, width)  # type: ignore[call-arg]

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        return self.down(self.up(tokens.values))


@part("feedforward")
class SplineKAN(_KAN):
    """Edges that are silu and cubic B-splines (Liu et al., KAN, 2024)."""

    layer = SplineEdges


@part("feedforward")
class RadialKAN(_KAN):
    """Edges that are silu and Gaussian bumps (Li, FastKAN, 2024)."""

    layer = RadialEdges


@part("feedforward")
class SineKAN(_KAN):
    """Edges that are sines of learned rates (Reinhardt et al., SineKAN, 2024)."""

    layer = SineEdges


@part("feedforward")
class FourierKAN(_KAN):
    """Edges that are Fourier series (Xu et al., FourierKAN-GCF, 2024)."""

    layer = FourierEdges
