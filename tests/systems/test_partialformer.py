"""`partialformer`: a run of the authors' layers, and what its parts must keep."""

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.tokens import Tokens
from support.agreement import FIXTURES
from support.parity import ids, perturb
from support.parts import close, context, tokens

SPREAD = ef.spec(ef.scores.HeadMLP, to=6)
SMALL = {"vocabulary": 20, "width": 32, "heads": 4, "depth": 2, "decoder_depth": 1, "value_heads": 6}


def test_equals_the_authors_layers():
    kept = load_file(FIXTURES / "partialformer.safetensors")
    own = ef.spec(ef.mixers.PartialAttention, heads=2, value_heads=6, ratio=3, steps=(SPREAD, ef.spec(ef.scores.Added)))
    body = ef.spec(
        ef.backbones.Block,
        mixer=own,
        feedforward=None,
        residual=ef.spec(ef.norms.Replacement, norm=ef.spec(ef.norms.Identity)),
    )
    first = ef.spec(ef.backbones.FirstScores, heads=6, head_width=6, norm=None, body=body).build(12)
    cross = ef.spec(ef.mixers.PartialCrossAttention, heads=2, value_heads=6, ratio=3, steps=(SPREAD,)).build(12)
    layer = first.body.mixer
    names = {first.query_key: ("first", "q_proj", "k_proj"), layer.qkv: ("own", "q_proj", "k_proj", "v_proj")}
    names |= {cross.query: ("cross", "q_proj"), cross.key_value: ("cross", "k_proj", "v_proj")}
    for part, module in (("own", layer), ("cross", cross)):
        names |= {module.gate: (part, "u_proj"), module.output: (part, "out_proj")}
        names |= {module.part.up: (part, "ff1"), module.part.down: (part, "ff2")}
        names |= {module.steps[0].up: (part, "hdp_net.0"), module.steps[0].down: (part, "hdp_net.2")}

    def theirs(what, part, *maps, kind):
        return torch.cat([kept[f"{what}.{part}.{each}.{kind}"].float() for each in maps])

    for linear, where in names.items():
        for kind in ("weight", "bias"):
            getattr(linear, kind).data.copy_(theirs("weight", *where, kind=kind))
    values = kept["input"].clone().requires_grad_()
    given, real = Tokens(values, mask=kept["real"]), kept["real"]
    before = first(given, Context()).values
    memory = {"encoder": Tokens(kept["memory"])}
    output = before + cross(Tokens(values + before), Context(memory=memory))
    close(output[real], kept["output"][real])
    (output * kept["cotangent"])[real].sum().backward()
    close(values.grad, kept["input_gradient"], 5e-5)
    for linear, where in names.items():
        for kind in ("weight", "bias"):
            close(getattr(linear, kind).grad, theirs("gradient", *where, kind=kind), 5e-5)


def test_without_its_feedforward_and_its_gate_it_is_attention():
    part = perturb(ef.spec(ef.mixers.PartialAttention, heads=4).build(32))
    plain = ef.spec(ef.mixers.Attention, heads=4).build(32).eval()
    plain.load_state_dict(part.state_dict(), strict=False)
    for each in (part.part.down, part.gate):
        torch.nn.init.zeros_(each.weight)
        torch.nn.init.zeros_(each.bias)
    torch.nn.init.ones_(part.gate.bias)
    close(part(tokens()), plain(tokens()))


def test_no_head_hears_the_values_of_another_before_the_output():
    part = perturb(ef.spec(ef.mixers.PartialAttention, heads=4).build(32))
    part.output = torch.nn.Identity()
    before = part(tokens()).unflatten(-1, (4, 8))
    part.qkv.weight.data[64 + 8 : 64 + 16] += 0.3
    after = part(tokens()).unflatten(-1, (4, 8))
    changed = (after - before).abs().amax((0, 1, 3))
    assert changed[1] > 1e-3
    assert changed[[0, 2, 3]].max() == 0


def test_its_feedforwards_are_small():
    block = on_meta(ef.design("partialformer", "base")).encoder.body.blocks[0].mixer
    width = 360 // 8
    assert sum(p.numel() for p in block.part.parameters()) == 2 * 4 * width**2 + 5 * width
    plain = ef.design("transformer", width=360, hidden=1440, depth=24, heads=8)
    assert parameters(on_meta(plain)) > 1.4 * parameters(on_meta(ef.design("partialformer", "base")))


@pytest.mark.parametrize("more", [{}, {"crossed": 2}])
def test_token_by_token_it_says_the_same(more):
    model = perturb(ef.create("partialformer", seed=0, dropout=0.0, **SMALL, **more))
    inputs, target = ids(20, 2, 6), ids(20, 2, 5, seed=1)
    state = model.prepare(inputs, Context(cache=Cache()))
    said = [model.decode(target[:, i : i + 1], state) for i in range(5)]
    close(torch.cat(said, 1), model(inputs, target))


def test_heads_of_values_need_scores_of_their_own():
    part = ef.spec(ef.mixers.PartialAttention, heads=4, value_heads=6).build(32)
    with pytest.raises(RuntimeError):
        part(tokens())


@pytest.mark.parametrize("own", [True, False])
def test_every_query_meets_every_key(own):
    """m2m, head by head: the scores of all pairs, mixed over the heads, and values of their own."""
    kind = ef.mixers.CrossedAttention if own else ef.mixers.CrossedCrossAttention
    part = perturb(ef.spec(kind, key_heads=2, head_width=8, steps=(ef.spec(ef.scores.HeadMLP),)).build(32))
    x, memory = tokens().values, context().memory["encoder"].values
    if own:
        query, key, value = part.qkv(x).split([16, 16, 32], -1)
    else:
        query, (key, value) = part.query(x), part.key_value(memory).split([16, 32], -1)
    scores = torch.stack([
        query[..., 8 * i : 8 * i + 8] @ key[..., 8 * j : 8 * j + 8].mT / 8**0.5 for j in range(2) for i in range(2)
    ], -1)  # fmt: skip
    step = part.steps[0]
    weights = step.down(step.up(scores).relu()).softmax(2)
    mixed = torch.stack([weights[..., h] @ value[..., 8 * h : 8 * h + 8] for h in range(4)], 2)
    said = mixed + part.part.down(torch.relu(part.part.up(mixed)))
    wanted = part.output(said.flatten(2) * part.gate(x).relu())
    close(part(tokens(), None if own else context()), wanted)
