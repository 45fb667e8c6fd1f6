"""`gtrans`: layers fused in groups, against the formula, and the plain Transformer as its limit."""

import pytest
import torch

import everyformer as ef
from everyformer.backbones import Fused
from support.parity import ids, perturb
from support.parts import close

SMALL = {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 4, "heads": 4, "dropout": 0.0}


def test_the_fusion_is_the_gated_sum_of_normed_groups():
    part = perturb(Fused(6, 4, group=2))
    outputs = [torch.randn(2, 3, 6) for _ in range(5)]

    def norm(values, layer):
        centred = values - values.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    total = sum(torch.sigmoid(part.weight[k]) * norm(outputs[2 * (k + 1)], part.norm[k]) for k in range(2))
    close(part(outputs), norm(total, part.norm[2]))
    for count in (2, 3, 4):
        assert part(outputs[:count]) is outputs[count - 1]


def test_one_group_without_norms_is_the_plain_stack():
    design = ef.design("gtrans", group=4, **SMALL).swap("*.depth.norm", ef.spec(ef.norms.Identity))
    model = perturb(design.build(seed=0))
    with torch.no_grad():
        for stack in (model.encoder, model.decoder):
            stack.depth.weight.fill_(100.0)
    plain = design.set("encoder.depth", None).set("decoder.depth", None).build(seed=0).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    inputs, target = ids(20, 2, 5), ids(20, 2, 4, seed=1)
    close(model(inputs, target), plain(inputs, target))


def test_the_first_layers_are_nearer_to_the_loss_than_in_a_plain_stack():
    ratios = {}
    for name, design in {"fused": ef.design("gtrans", group=1, **{**SMALL, "depth": 12})}.items():
        for kind, made in {name: design, "plain": design.set("encoder.depth", None).set("decoder.depth", None)}.items():
            model = made.build(seed=0)
            model(ids(20, 2, 5), ids(20, 2, 4, seed=1)).square().sum().backward()
            first, last = (model.encoder.blocks[i].feedforward.up.weight.grad.norm() for i in (0, 11))
            ratios[kind] = float(first / last)
    assert ratios["fused"] > ratios["plain"]


def test_blocks_that_make_no_groups_are_refused():
    with pytest.raises(ef.DoesNotFit, match="4 blocks do not fall into groups of 3"):
        ef.create("gtrans", group=3, **SMALL)
