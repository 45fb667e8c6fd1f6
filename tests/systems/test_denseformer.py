"""`denseformer`: depth-weighted averaging against the paper's equations and a run of the authors' module."""

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.designs import Design
from support.agreement import FIXTURES
from support.parity import ids, perturb
from support.parts import close

SMALL = {"vocabulary": 20, "width": 32, "depth": 6, "heads": 4}


@pytest.mark.parametrize(("dilation", "period"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_at_the_start_it_is_the_plain_stack(dilation, period):
    design = ef.design("denseformer", dilation=dilation, period=period, **SMALL)
    model, plain = design.build(seed=0), design.set("backbone.depth", None).build(seed=0)
    plain.load_state_dict(model.state_dict(), strict=False)
    close(model(ids(20, 2, 7)), plain(ids(20, 2, 7)))


@pytest.mark.parametrize(("dilation", "period"), [(1, 1), (2, 1), (1, 3), (2, 3), (4, 5)])
def test_what_each_block_reads_is_equation_3(dilation, period):
    blocks = 6
    depth = perturb(ef.backbones.DepthWeighted(4, blocks, dilation=dilation, period=period))
    weights = iter(depth.weight.tolist())
    outputs = [torch.randn(2, 3, 4)]
    for i in range(1, blocks + 1):
        outputs.append(torch.randn(2, 3, 4))
        wanted = outputs[i]
        if i % period == 0:
            wanted = sum(next(weights) * outputs[j] for j in range(i + 1) if j % dilation == i % dilation)
        close(depth(list(outputs)), wanted)
    assert not list(weights)


def test_parameters_are_those_of_the_paper():
    depth = ef.design("denseformer", dilation=1, period=1).build(device="meta").backbone.depth
    assert depth.weight.numel() == 48 * 51 // 2
    assert parameters(on_meta(ef.design("denseformer", "48"))) / 1e6 == pytest.approx(378, rel=0.01)
    assert parameters(on_meta(ef.design("denseformer", "72"))) / 1e6 == pytest.approx(549, rel=0.01)


@pytest.mark.parametrize("kind", ["1x1", "2x3"])
def test_equals_the_authors_module(kind):
    kept = load_file(FIXTURES / "denseformer.safetensors")
    dilation, period = map(int, kind.split("x"))
    depth = ef.backbones.DepthWeighted(8, 6, dilation=dilation, period=period)
    depth.weight.data.copy_(kept[f"{kind}.weight"])
    values = kept["input"].clone().requires_grad_()
    outputs, read = [values], values
    for i in range(6):
        outputs.append(torch.tanh(read * (1 + i)))
        read = depth(list(outputs))
    close(read, kept[f"{kind}.output"])
    (read * kept["cotangent"]).sum().backward()
    close(depth.weight.grad, kept[f"{kind}.gradient"])
    close(values.grad, kept[f"{kind}.input_gradient"])


def test_token_by_token_it_says_the_same():
    model = perturb(ef.design("denseformer", dilation=1, period=1, **SMALL).build(seed=0))
    inputs, state = ids(20, 2, 7), Context(cache=Cache())
    close(torch.cat([model.decode(inputs[:, i : i + 1], state) for i in range(7)], 1), model(inputs))


def test_a_block_put_in_gives_new_weights_to_the_longer_stack():
    design = ef.design("denseformer", dilation=1, period=1, **{**SMALL, "depth": 2})
    model = design.build(seed=0)
    ef.insert(model, "backbone.blocks.1", design.get("backbone.blocks.0"), seed=0)
    assert model.backbone.depth.weight.numel() == 3 * 6 // 2
    assert model(ids(20, 2, 7)).isfinite().all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="at least 1; given 0 and 1"):
        ef.design("denseformer", dilation=0, period=1, **SMALL).build()
    assert isinstance(ef.design("denseformer", **SMALL), Design)
