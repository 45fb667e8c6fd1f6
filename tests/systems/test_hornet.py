"""`hornet` against the equations of the paper and the recursion's limits."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb, same_as_function


def layer_norm(p, name, x):
    """Over the channels of (B, C, Y, X)."""
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return normed * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def pointwise(p, name, x):
    return torch.einsum("oc,bcyx->boyx", p[f"{name}.weight"], x) + p[f"{name}.bias"][:, None, None]


def gnconv(p, name, x, order):
    """Equations 3 to 5, every convolution of a channel written as shifted sums."""
    channels = x.shape[1]
    widths = [channels // 2 ** (order - 1 - k) for k in range(order)]
    both = pointwise(p, f"{name}.up", x)
    gated, convolved = both[:, : widths[0]], both[:, widths[0] :]
    kernel, padded = p[f"{name}.conv.weight"], F.pad(convolved, (3, 3, 3, 3))
    mixed = p[f"{name}.conv.bias"][:, None, None].expand_as(convolved)
    for dy in range(7):
        for dx in range(7):
            near = padded[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]
            mixed = mixed + near * kernel[:, 0, dy, dx, None, None]
    gates = (mixed / 3).split(widths, 1)
    gated = gated * gates[0]
    for k in range(1, order):
        gated = pointwise(p, f"{name}.maps.{k - 1}", gated) * gates[k]
    return pointwise(p, f"{name}.output", gated)


def literal(p, x):
    x = layer_norm(p, "embedding.norm", F.conv2d(x, p["embedding.project.weight"], p["embedding.project.bias"], 4))
    for stage, order in enumerate((2, 3)):
        name = f"backbone.stages.{stage}"
        if stage:
            x = layer_norm(p, f"{name}.enter.before", x)
            x = F.conv2d(x, p[f"{name}.enter.project.weight"], p[f"{name}.enter.project.bias"], 2)
        block = f"{name}.blocks.0"
        scales = [p[f"{block}.residual.{k}.branches.0.factor"][:, None, None] for k in (0, 1)]
        x = x + scales[0] * gnconv(p, f"{block}.mixer", layer_norm(p, f"{block}.residual.0.norm", x), order)
        hidden = F.gelu(pointwise(p, f"{block}.feedforward.up", layer_norm(p, f"{block}.residual.1.norm", x)))
        x = x + scales[1] * pointwise(p, f"{block}.feedforward.down", hidden)
    mean = layer_norm(p, "head.norm", x.mean((2, 3), keepdim=True))
    return pointwise(p, "head.classify", mean)[:, :, 0, 0]


def test_equals_the_equations():
    sizes = {"width": 8, "depths": (1, 1), "orders": (2, 3), "image": 32, "channels": 2, "classes": 5}
    model = perturb(ef.create("hornet", drop_path=0.0, scale=0.5, **sizes), std=0.2)
    same_as_function(model, literal, torch.randn(2, 2, 32, 32))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_order_is_the_degree_less_one(order):
    """Without shifts every gate multiplies one more factor: g(ax) = a^(n + 1) g(x)."""
    mixer = perturb(ef.spec(ef.mixers.GatedConvolution, order=order).build(16), std=0.2)
    for name, parameter in mixer.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    tokens = ef.Tokens(torch.randn(1, 20, 16), grid=(4, 5))
    close(mixer(tokens.update(tokens.values * 1.5)), 1.5 ** (order + 1) * mixer(tokens))


def test_a_cell_sees_its_neighbourhood_alone():
    mixer = perturb(ef.spec(ef.mixers.GatedConvolution, order=4).build(16), std=0.2)
    values = torch.randn(1, 121, 16, requires_grad=True)
    mixer(ef.Tokens(values, grid=(11, 11)))[0, 60].sum().backward()
    seen = values.grad[0].abs().sum(-1).view(11, 11) > 0
    assert seen[2:9, 2:9].all()
    assert seen.sum() == 49


@pytest.mark.parametrize(("size", "published"), [("tiny", 22.4e6), ("small", 49.5e6), ("base", 87.3e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1 rounds to 22 M, 50 M and 87 M; the decimals are of the official models."""
    assert parameters(on_meta(ef.design("hornet", size))) == pytest.approx(published, rel=0.01)


def test_widths_that_cannot_be_halved_are_refused():
    with pytest.raises(ef.DoesNotFit, match="width 12 cannot be halved 3 times"):
        ef.spec(ef.mixers.GatedConvolution, order=4).build(12)
