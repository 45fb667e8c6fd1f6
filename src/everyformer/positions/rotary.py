"""Rotary positions: queries and keys turned by angles that grow with the place."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.registry import part


class Turned(Position):
    """Rotation of pairs (i, i + R/2) of the first R channels of a head, all in one table per pass."""

    stands = "attention"
    turned: int
    gain: float = 1.0
    """What the turned channels are multiplied by."""

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R"]:
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
            waves = angles.cos() * self.gain, angles.sin() * self.gain
            context.lowered[key] = places, waves[0].to(x.dtype), waves[1].to(x.dtype)
        _, cos, sin = context.lowered[key]
        turned = x[..., : self.turned]
        left, right = turned.chunk(2, -1)
        turned = turned * cos + torch.cat((-right, left), -1) * sin
        return turned if self.turned == x.shape[-1] else torch.cat((turned, x[..., self.turned :]), -1)


@part("positions")
class Rotary(Turned):
    """Rotary positions on a line (Su et al., RoFormer, 2021, equation 34), in the split-half order of LLaMA.

    `fraction` of each head is turned. For contexts longer than trained on: `linear` divides the places (Chen et al.,
    2023); `ntk` stretches the base (bloc97, 2023); `yarn` is (factor, original length) (Peng et al., 2023); `llama3` is
    (factor, low, high, original length) of Llama 3.1.
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
        yarn: tuple[float, ...] | None = None,
        llama3: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        head = width // heads
        self.turned = int(head * fraction) // 2 * 2
        if self.turned < 2:
            raise ValueError(f"a head of width {head} and fraction {fraction} leave no pair of channels to turn")
        if sum((linear != 1.0, ntk != 1.0, yarn is not None, llama3 is not None)) > 1:
            raise ValueError("one of linear, ntk, yarn and llama3 at a time")
        base = base * ntk ** (self.turned / max(self.turned - 2, 1))
        rates = 1.0 / (base ** (torch.arange(0, self.turned, 2, device="cpu").double() / self.turned)) / linear
        if yarn is not None:
            rates = _yarn(rates, base, *yarn)
            self.gain = 0.1 * math.log(yarn[0]) + 1.0
        if llama3 is not None:
            rates = _llama3(rates, *llama3)
        self.rates = tuple(rates.tolist())

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R"]:
        """place times rate."""
        return places[..., :1].float() * torch.tensor(self.rates, device=places.device, dtype=torch.float32)


def _yarn(rates: Tensor, base: float, factor: float, original: float, fast: float = 32.0, slow: float = 1.0) -> Tensor:
    """Channels that turn less than `slow` times within the original length divided by `factor`, those that turn more
    than `fast` times kept, a ramp between (Peng et al., YaRN, 2023, section 3.2; its code rounds the ramp's ends).
    """
    pairs = len(rates)

    def channel(turns: float) -> float:
        return pairs * math.log(original / (turns * 2 * math.pi)) / math.log(base)

    low, high = max(math.floor(channel(fast)), 0), min(math.ceil(channel(slow)), 2 * pairs - 1)
    ramp = ((torch.arange(pairs, device="cpu") - low) / max(high - low, 0.001)).clamp(0, 1)
    return rates * (1 - ramp) + rates / factor * ramp


def _llama3(rates: Tensor, factor: float, low: float, high: float, original: float) -> Tensor:
    """Slow rates divided by `factor`, fast ones kept, the rest between (Llama 3.1)."""
    length = 2 * math.pi / rates
    smooth = (original / length - low) / (high - low)
    between = (1 - smooth) * rates / factor + smooth * rates
    return torch.where(length > original / low, rates / factor, torch.where(length < original / high, rates, between))


@part("positions")
class RotaryGrid(Turned):
    """Axial rotary positions: the pairs of a head are shared out among the axes of the grid (Heo et al., 2024, eq. 5)."""

    def __init__(self, width: int, heads: int = 1, *, base: float = 100.0, axes: int = 2) -> None:
        super().__init__()
        head = width // heads
        each = head // (2 * axes)
        if each < 1:
            raise ValueError(f"a head of width {head} leaves no pair of channels for each of {axes} axes")
        self.axes, self.turned = axes, each * 2 * axes
        self.rates = tuple((1.0 / base ** (torch.arange(each, device="cpu").double() / each)).tolist())

    def angles(self, places: Shaped[Tensor, "#B N k"]) -> Float[Tensor, "#B N R"]:
        """Each axis's place times its rates; tokens on a line stand on the first axis."""
        rates = torch.tensor(self.rates, device=places.device, dtype=torch.float32)
        found = places[..., : self.axes].float()
        found = torch.nn.functional.pad(found, (0, self.axes - found.shape[-1]))
        return (found[..., None] * rates).flatten(-2)
