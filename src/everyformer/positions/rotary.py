"""Rotary positions: queries and keys turned by angles that grow with the place."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.registry import part


class _Rotary(Position):
    """Rotation of pairs (i, i + R/2) of the first R channels of a head, all in one table per pass."""

    stands = "attention"
    turned: int

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R/2"]:
        """The angle of each pair at each place."""
        raise NotImplementedError

    def rotate(
        self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N k"], context: Context
    ) -> Float[Tensor, "B H N K"]:
        """Queries or keys turned by where they stand."""
        key = id(self), id(places), x.dtype
        if key not in context.lowered:
            angles = self.angles(places)[:, None]
            angles = torch.cat((angles, angles), -1)
            context.lowered[key] = places, angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        _, cos, sin = context.lowered[key]
        turned = x[..., : self.turned]
        left, right = turned.chunk(2, -1)
        turned = turned * cos + torch.cat((-right, left), -1) * sin
        return turned if self.turned == x.shape[-1] else torch.cat((turned, x[..., self.turned :]), -1)


@part("positions")
class Rotary(_Rotary):
    """Rotary positions on a line (Su et al., RoFormer, 2021, equation 34), in the split-half order of LLaMA.

    `fraction` of each head is turned. For contexts longer than trained on: `linear` divides the places (Chen et al.,
    2023); `ntk` stretches the base (bloc97, 2023); `llama3` is (factor, low, high, original length) of Llama 3.1.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        base: float = 10000.0,
        fraction: float = 1.0,
        linear: float = 1.0,
        ntk: float = 1.0,
        llama3: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        head = width // heads
        self.turned = int(head * fraction) // 2 * 2
        if self.turned < 2:
            raise ValueError(f"a head of width {head} and fraction {fraction} leave no pair of channels to turn")
        base = base * ntk ** (self.turned / max(self.turned - 2, 1))
        rates = 1.0 / (base ** (torch.arange(0, self.turned, 2, device="cpu").double() / self.turned)) / linear
        if llama3 is not None:
            rates = _llama3(rates, *llama3)
        self.rates = tuple(rates.tolist())

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R/2"]:
        """place times rate."""
        return places[..., :1].float() * torch.tensor(self.rates, device=places.device, dtype=torch.float32)


def _llama3(rates: Tensor, factor: float, low: float, high: float, original: float) -> Tensor:
    """Slow rates divided by `factor`, fast ones kept, the rest between (Llama 3.1)."""
    length = 2 * math.pi / rates
    smooth = (original / length - low) / (high - low)
    between = (1 - smooth) * rates / factor + smooth * rates
    return torch.where(length > original / low, rates / factor, torch.where(length < original / high, rates, between))


@part("positions")
class RotaryGrid(_Rotary):
    """Axial rotary positions: the pairs of a head are shared out among the axes of the grid (Heo et al., 2024, eq. 5)."""

    def __init__(self, width: int, heads: int = 1, *, base: float = 100.0, axes: int = 2) -> None:
        super().__init__()
        head = width // heads
        each = head // (2 * axes)
        if each < 1:
            raise ValueError(f"a head of width {head} leaves no pair of channels for each of {axes} axes")
        self.axes, self.turned = axes, each * 2 * axes
        self.rates = tuple((1.0 / base ** (torch.arange(each, device="cpu").double() / each)).tolist())

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R/2"]:
        """Each axis's place times its rates; tokens on a line stand on the first axis."""
        rates = torch.tensor(self.rates, device=places.device, dtype=torch.float32)
        found = places[..., : self.axes].float()
        found = torch.nn.functional.pad(found, (0, self.axes - found.shape[-1]))
        return (found[..., None] * rates).flatten(-2)
