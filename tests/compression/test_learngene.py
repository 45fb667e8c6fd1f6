"""Layers as a linear function of their place: the identities, the gradient, and ordinary models of other depths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.backbones import LinearExpansion, Loop
from everyformer.costs import parameters
from support.agreement import close, perturb


def designs(depth: int) -> tuple[Any, Any]:
    """A small ViT, and the same with its layers expanded."""
    plain = ef.design("vit", classes=3, image=8, patch=4, width=16, depth=depth, heads=2, ratio=2)
    block = plain.get("backbone.blocks.0")
    return plain, plain.set("backbone.blocks", (ef.spec(LinearExpansion, block=block, depth=depth),))


PICTURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_expansion_is_the_ordinary_model_of_its_layers() -> None:
    """Answers and gradients: that of the slope is the sum of l / L times those of the layers."""
    model: Any = perturb(designs(4)[1].build(seed=0).eval(), seed=1, std=0.1)
    made = ef.compression.tleg(model, depth=4)
    close(made(PICTURES), model(PICTURES))
    for each in (made, model):
        each(PICTURES).square().sum().backward()
    base, slope = (dict(each.named_parameters()) for each in model.backbone.blocks[0].block)
    for name, weight in base.items():
        layers = [dict(block.named_parameters())[name].grad for block in made.backbone.blocks]
        close(weight.grad, torch.stack(layers).sum(0), name)
        close(slope[name].grad, sum(i / 4 * each for i, each in enumerate(layers)), name)


def test_without_a_slope_all_layers_are_one() -> None:
    plain, expanded = designs(3)
    model: Any = expanded.build(seed=0).eval()
    assert not any(each.any() for each in model.backbone.blocks[0].block[1].parameters())
    loop = plain.set("backbone.blocks", (ef.spec(Loop, blocks=(plain.get("backbone.blocks.0"),), times=3),)).build()
    weights = {
        name.replace("blocks.0.block.0.", "blocks.0.blocks.0."): each for name, each in model.state_dict().items()
    }
    loop.load_state_dict({name: each for name, each in weights.items() if ".block.1." not in name})
    close(model(PICTURES), loop.eval()(PICTURES))


def test_twice_the_depth_stands_between_the_layers() -> None:
    """Every second layer of 6 is one of 3, and two layers are stored for all of them."""
    model: Any = perturb(designs(3)[1].build(seed=0), seed=1, std=0.1)
    short, long = (ef.compression.tleg(model, depth=depth) for depth in (3, 6))
    for i in range(3):
        for name, each in short.backbone.blocks[i].state_dict().items():
            assert torch.allclose(long.backbone.blocks[2 * i].state_dict()[name], each, atol=1e-6)
    one = parameters(short.backbone.blocks[0])
    assert parameters(short) - parameters(model) == one == (parameters(long) - parameters(model)) // 4


def test_what_cannot_be_expanded_is_told() -> None:
    plain, expanded = designs(2)
    with pytest.raises(ef.BadInput, match="at least one layer; given depth=0"):
        ef.compression.tleg(expanded.build(), depth=0)
    with pytest.raises(ef.DoesNotFit, match="expected a LinearExpansion as the one block of a body, found 0"):
        ef.compression.tleg(plain.build(), depth=2)
    with pytest.raises(ef.EveryformerError, match="depth is at least 1; given 0"):
        ef.spec(LinearExpansion, depth=0).build(16)
