"""`tokenformer`: attention to learned tokens against the paper and the authors' class, and growth that changes nothing."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import FIXTURES
from support.parity import ids, perturb
from support.parts import close

SMALL = {"vocabulary": 20, "width": 32, "depth": 2, "heads": 4, "tokens": 12}


def test_equals_the_authors_class():
    kept = load_file(FIXTURES / "tokenformer.safetensors")
    part = ef.feedforward.Pattention(8, 6, tokens=10)
    part.key.data.copy_(kept["key"])
    part.value.data.copy_(kept["value"])
    values = kept["input"].clone().requires_grad_()
    output = part(values)
    close(output, kept["output"])
    (output * kept["cotangent"]).sum().backward()
    for found, name in ((values.grad, "input"), (part.key.grad, "key"), (part.value.grad, "value")):
        close(found, kept[f"gradient.{name}"])


def test_equals_equations_6_to_8():
    part, values = perturb(ef.feedforward.Pattention(8, 6, tokens=10)), torch.randn(2, 3, 8)
    wanted = torch.zeros(2, 3, 6)
    for b in range(2):
        for t in range(3):
            scores = [sum(values[b, t, i] * part.key[j, i] for i in range(8)) for j in range(10)]
            norm = sum(score**2 for score in scores) ** 0.5
            for j in range(10):
                share = scores[j] * math.sqrt(10) / norm
                wanted[b, t] += 0.5 * share * (1 + torch.erf(share / math.sqrt(2))) * part.value[j]
    close(part(values), wanted)


def grown(model, more):
    ef.resize(model, "**.mixer.*projection.tokens", more, seed=1)
    return ef.resize(model, "**.feedforward.projection.tokens", 4 * more, seed=1)


def test_growth_keeps_the_function():
    model = perturb(ef.create("tokenformer", seed=0, **SMALL))
    inputs = ids(20, 2, 9)
    before, size = model(inputs), parameters(model)
    grown(model, 24)
    close(model(inputs), before, 1e-6)
    layers = 2 * (3 * 12 * 64 + 12 * 64 + 48 * 64)
    assert parameters(model) == size + layers
    assert ef.designs.design_of(model) == ef.design("tokenformer", **{**SMALL, "tokens": 24})
    again = ef.create("tokenformer", **{**SMALL, "tokens": 24})
    again.load_state_dict(model.state_dict())
    close(again.eval()(inputs), before, 1e-6)


def test_new_tokens_learn():
    model = grown(perturb(ef.create("tokenformer", seed=0, **SMALL)), 24)
    model(ids(20, 2, 9)).square().sum().backward()
    key = model.backbone.blocks[0].feedforward.projection.key
    assert (key.grad[48:].abs().sum(1) > 0).all()


@pytest.mark.parametrize("broken", ["scale", "keys"])
def test_growth_by_a_new_scale_or_random_keys_does_not_keep_it(broken):
    model = perturb(ef.create("tokenformer", seed=0, **SMALL))
    inputs = ids(20, 2, 9)
    before = model(inputs)
    for part in grown(model, 24).modules():
        if isinstance(part, ef.feedforward.Pattention) and broken == "scale":
            part.scale.fill_(math.sqrt(len(part.key)))
        elif isinstance(part, ef.feedforward.Pattention):
            torch.nn.init.normal_(part.key[len(part.key) // 2 :])
    assert (model(inputs) - before).abs().max() > 1e-2


def test_cutting_grown_tokens_off_gives_the_old_model_back():
    model = perturb(ef.create("tokenformer", seed=0, **SMALL))
    whole = copy.deepcopy(model.state_dict())
    grown(grown(model, 24), 12)
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("size", "millions"), [("150m", 150), ("450m", 450), ("900m", 900), ("1.5b", 1500)])
def test_sizes_are_those_of_the_authors_configurations(size, millions):
    """Their names round, by up to 6 %; the sum over their slots is exact."""
    design = ef.design("tokenformer", size)
    width, depth = design.get("width"), len(design.get("backbone.blocks"))
    found = parameters(on_meta(design))
    assert found == depth * (4 * 2 * width**2 + 2 * 4 * width**2) + 50304 * width + 2 * width
    assert found / 1e6 == pytest.approx(millions, rel=0.06)


def test_projections_of_attention_are_parts():
    linear = ef.spec(ef.feedforward.Linear)
    ours = ef.mixers.ProjectedAttention(32, heads=4, projection=linear, output_projection=linear)
    plain = ef.mixers.Attention(32, heads=4)
    for number, (weight, bias) in enumerate(zip(plain.qkv.weight.chunk(3), plain.qkv.bias.chunk(3), strict=True)):
        ours.projection[number].map.load_state_dict({"weight": weight, "bias": bias})
    ours.output_projection.map.load_state_dict(plain.output.state_dict())
    from support.parts import tokens

    close(ours(tokens()), plain(tokens()))


def test_no_tokens_are_refused():
    with pytest.raises(ValueError, match="at least one token"):
        ef.feedforward.Pattention(4, 4, tokens=0)
