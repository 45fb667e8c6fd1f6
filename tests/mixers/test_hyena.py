"""Hyena against its definition written out, and its filter against the sum that it is."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.mixers import Hyena
from everyformer.mixers.hyena import convolve
from everyformer.tokens import Tokens
from support.agreement import close, perturb, same_as_function

D, N, LENGTH = 6, 9, 12


class Called(torch.nn.Module):
    def __init__(self, order):
        super().__init__()
        self.mixer = perturb(Hyena(D, order=order, length=LENGTH, hidden=5), std=0.2)

    def forward(self, values):
        return self.mixer(Tokens(values))


def long_filter(p, channels, t):
    """h at distance t: sines of sines of time, fading."""
    time = torch.tensor(t / (LENGTH - 1))
    angle = 2 * math.pi * 1e-4 * time
    x = torch.stack((time, angle.cos(), -angle.sin()))
    for i, name in enumerate(("first", "inner")):
        x = (
            p["mixer.filter.frequency"][i] * (p[f"mixer.filter.{name}.weight"] @ x + p[f"mixer.filter.{name}.bias"])
        ).sin()
    rates = torch.linspace(math.log(100) / 1.5, math.log(100) / 0.3, channels)
    return (p["mixer.filter.last.weight"] @ x) * (-rates * time).exp()


def literal(order):
    def function(p, values):
        rows = []
        for x in values:
            z = x @ p["mixer.project.weight"].T + p["mixer.project.bias"]
            short = p["mixer.convolution.weight"][:, 0]
            z = torch.stack([
                sum(short[:, 2 - j] * z[t - j] for j in range(3) if t >= j) + p["mixer.convolution.bias"] for t in range(N)
            ])  # fmt: skip
            *gates, value = z.split(D, -1)
            filters = torch.stack([long_filter(p, (order - 1) * D, t) for t in range(N)])
            for i, gate in enumerate(reversed(gates[1:])):
                value = value * gate
                h = filters[:, i * D : (i + 1) * D]
                value = torch.stack([
                    sum(h[t - s] * value[s] for s in range(t + 1)) + p["mixer.skip"][i] * value[t] for t in range(N)
                ])  # fmt: skip
            rows.append((value * gates[0]) @ p["mixer.output.weight"].T + p["mixer.output.bias"])
        return torch.stack(rows)

    return function


@pytest.mark.parametrize("order", [2, 3])
def test_equals_its_definition(order):
    torch.manual_seed(0)
    same_as_function(Called(order), literal(order), torch.randn(2, N, D))


def test_the_transforms_give_the_sum():
    x, kernel = torch.randn(2, 50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    wanted = torch.stack([sum(kernel[t - s] * x[:, s] for s in range(t + 1)) for t in range(50)], 1)
    close(convolve(x, kernel), wanted)


def test_a_longer_text_than_the_filters_is_refused():
    with pytest.raises(ef.BadInput, match="13 tokens, and Hyena was built for 12"):
        Hyena(D, length=12)(Tokens(torch.randn(1, 13, D)))
    with pytest.raises(ef.DoesNotFit, match="order is at least 2; given 1"):
        ef.spec(Hyena, order=1).build(D)
