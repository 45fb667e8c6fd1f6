"""Long convolutions whose filters are made by a small network, between gates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.mixers.history import ShortConvolution, along
from everyformer.registry import part
from everyformer.tokens import Tokens


class Filter(nn.Module):
    """A filter for each channel: a network of sines of the place, fading at a rate of its channel (Poli et al., 2023, 3.3)."""

    def __init__(self, channels: int, length: int, *, hidden: int = 64, waves: int = 1, target: float = 1e-2) -> None:
        super().__init__()
        self.length, self.waves = length, waves
        self.first = nn.Linear(1 + 2 * waves, hidden)
        self.inner = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, channels, bias=False)
        self.frequency = nn.Parameter(torch.ones(2, hidden))
        self.slowest, self.fastest = math.log(1 / target) / 1.5, math.log(1 / target) / 0.3

    def forward(self, count: int) -> Float[Tensor, "N C"]:
        """The filter at distances 0 to `count` - 1, the last of `length` being 1."""
        like = self.frequency
        time = torch.arange(count).to(like)[:, None] / max(self.length - 1, 1)
        angle = 2 * math.pi * torch.linspace(1e-4, self.waves, self.waves).to(like) * time
        hidden = (self.frequency[0] * self.first(torch.cat((time, angle.cos(), -angle.sin()), -1))).sin()
        hidden = (self.frequency[1] * self.inner(hidden)).sin()
        rates = torch.linspace(self.slowest, self.fastest, self.last.out_features).to(like)
        return self.last(hidden) * (-rates * time).exp()


@part("mixers")
class Hyena(Mixer):
    """x_1 (h * (x_2 v)), gates and long convolutions in turn (Poli et al., Hyena, 2023, definition 3.1), for `order` gates.

    Gates and values are linear in the tokens and pass a short convolution; `length` is what filters are made for. The
    time grows as N log N.
    """

    capabilities = frozenset({"causal", "padding", "ordered"})

    def __init__(self, width: int, *, order: int = 2, length: int = 4096, kernel: int = 3, hidden: int = 64) -> None:
        super().__init__()
        if order < 2:
            raise ValueError(f"the order is at least 2; given {order}")
        self.order, self.length = order, length
        self.project = nn.Linear(width, (order + 1) * width)
        self.convolution = ShortConvolution((order + 1) * width, kernel, bias=True)
        self.filter = Filter((order - 1) * width, length, hidden=hidden)
        self.skip = nn.Parameter(torch.randn(order - 1, width))
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The gated convolutions over the tokens up to each."""
        if tokens.count > self.length:
            raise BadInput(f"{tokens.count} tokens, and Hyena was built for {self.length}; build with a larger length")
        mixed = self.convolution(self.project(tokens.values), tokens, context or Context())
        if tokens.mask is not None:
            mixed = mixed * tokens.mask[..., None]
        found, _ = along(mixed, mixed[:, :0], tokens.mask, self.gated)
        return self.output(found)

    def gated(self, mixed: Float[Tensor, "B N E"]) -> Float[Tensor, "B N D"]:
        """Gates and convolutions in turn."""
        last, *gates, value = mixed.chunk(self.order + 1, -1)
        filters = self.filter(mixed.shape[1]).chunk(self.order - 1, -1)
        for gate, each, skip in zip(reversed(gates), filters, self.skip):
            value = value * gate
            value = convolve(value, each) + skip * value
        return value * last


def convolve(x: Float[Tensor, "B N C"], kernel: Float[Tensor, "N C"]) -> Float[Tensor, "B N C"]:
    """sum_{s <= t} kernel_{t-s} x_s for each channel, by Fourier transforms of twice the length, at least in float32."""
    dtype, size = torch.promote_types(x.dtype, torch.float32), 2 * x.shape[1]
    spectrum = torch.fft.rfft(x.to(dtype), n=size, dim=1) * torch.fft.rfft(kernel.to(dtype), n=size, dim=0)
    return torch.fft.irfft(spectrum, n=size, dim=1)[:, : x.shape[1]].to(x.dtype)
