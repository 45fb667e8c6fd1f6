"""Kolmogorov-Arnold feedforwards against scipy's splines and the sums of the papers."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from everyformer.feedforward.kan import FourierEdges, RadialEdges, SineEdges, SplineEdges
from support.parts import make, tokens

EDGES = [FourierEdges, RadialEdges, SineEdges, SplineEdges]


def test_splines_equal_scipys():
    edges = SplineEdges(1, 1)
    x = torch.linspace(-0.999, 0.999, 41)
    knots = np.arange(-3, 9) * 0.4 - 1
    expected = BSpline.design_matrix(x.double().numpy(), knots, 3).toarray()
    found = edges.bases(x[:, None].double())[:, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(41).double(), rtol=0, atol=1e-9)


def literal(edges, x):
    """y_j as a sum over inputs of a function of each alone."""
    y = []
    weight = edges.sum.weight.view(-1, len(x), edges.each)
    normed = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    if isinstance(edges, RadialEdges):
        normed = normed * edges.norm.weight + edges.norm.bias
    for j in range(len(weight)):
        total = edges.sum.bias[j] if edges.sum.bias is not None else torch.zeros(())
        for i, value in enumerate(x):
            for e in range(edges.each):
                if isinstance(edges, FourierEdges):
                    k = e % 4 + 1
                    phi = torch.cos(k * value) if e < 4 else torch.sin(k * value)
                elif isinstance(edges, SineEdges):
                    phase = (e + 1) / 9 + math.pi * i / (len(x) - 1)
                    phi = torch.sin(edges.rates[e] * value + phase)
                elif isinstance(edges, RadialEdges):
                    phi = torch.exp(-(((normed[i] - (-2 + 4 * e / 7)) / (4 / 7)) ** 2))
                else:
                    knots = [(k - 3) * 0.4 - 1 for k in range(12)]
                    phi = torch.tensor(float(BSpline.basis_element(knots[e : e + 5], False)(float(value))))
                    phi = torch.nan_to_num(phi)
                total = total + weight[j, i, e] * phi
        y.append(total)
    y = torch.stack(y)
    if hasattr(edges, "base"):
        y = y + edges.base(x * torch.sigmoid(x))
    return y


@pytest.mark.parametrize("kind", EDGES)
def test_equals_the_sum_over_edges(kind):
    edges = kind(5, 3)
    x = torch.tensor([-0.9, -0.3, 0.1, 0.55, 0.8])
    torch.testing.assert_close(edges(x), literal(edges, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [FourierEdges, SineEdges, SplineEdges])
def test_a_layer_is_a_sum_over_its_inputs(kind):
    """The mixed second difference is zero; a bump of normalised inputs knows the others."""
    edges = kind(4, 3).double()
    x = torch.rand(4).double() - 0.5
    a, b = torch.zeros(4).double(), torch.zeros(4).double()
    a[0], b[2] = 0.3, 0.2
    mixed = edges(x + a + b) - edges(x + a) - edges(x + b) + edges(x)
    assert mixed.abs().max() < 1e-9


def test_what_the_functions_can_be():
    """A Fourier edge is sin(3x) exactly; cubic splines are x^3 exactly inside the grid; none leaves silu."""
    fourier, spline = FourierEdges(1, 1), SplineEdges(1, 1)
    x = torch.linspace(-0.99, 0.99, 21)[:, None]
    with torch.no_grad():
        fourier.sum.weight.zero_()
        fourier.sum.bias.zero_()
        fourier.sum.weight[0, 6] = 1
        spline.base.weight.zero_()
        bases = spline.bases(x.double())[:, 0]
        best = torch.linalg.lstsq(bases, x.double() ** 3).solution
        spline.sum.weight.copy_(best.T)
    torch.testing.assert_close(fourier(x), torch.sin(3 * x))
    torch.testing.assert_close(spline(x), x**3, rtol=0, atol=1e-6)
    with torch.no_grad():
        spline.sum.weight.zero_()
        spline.base.weight.fill_(2.0)
    torch.testing.assert_close(spline(x), 2 * torch.nn.functional.silu(x))


@pytest.mark.parametrize("name", ["SplineKAN", "RadialKAN", "SineKAN", "FourierKAN"])
def test_two_layers_stand_one_after_the_other(name):
    kan, whole = make(f"feedforward.{name}", hidden=7), tokens()
    torch.testing.assert_close(kan(whole), kan.down(kan.up(whole.values)))
    assert kan.up(whole.values).shape[-1] == 7
