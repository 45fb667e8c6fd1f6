"""Attribution: completeness, limits, and captum's figures."""

from __future__ import annotations

import pytest
import torch
from captum import attr
from torch import nn

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interpret import (
    Against,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    atman,
    attribute,
    attribute_generation,
    log_probability,
    logit,
)
from everyformer.interpret.attribution import entrance
from everyformer.mixers.attend import Taps
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny

PROMPT = torch.tensor([[3, 7, 1, 12, 5, 9]])
SAID = torch.tensor([4, 11, 2])


@pytest.fixture
def gpt():
    return model_of(tiny("gpt"))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(12, 3, bias=False)

    def forward(self, inputs):
        return self.map(inputs.flatten(1))


@pytest.mark.parametrize("method", [InputXGradient(), IntegratedGradients(2), Occlusion()])
def test_all_agree_on_a_linear_model(method):
    model, x = Linear(), torch.randn(1, 4, 3)
    (found,) = attribute(model, {"inputs": x}, lambda answer: answer[:, 1], method)
    exact = x * model.map.weight[1].view(1, 4, 3)
    close(found.sum(-1), exact.sum(-1))


@pytest.mark.parametrize("name", ["gpt", "vit", "transformer", "ast", "itransformer"])
def test_integrated_gradients_are_complete(name):
    model = model_of(tiny(name))
    batch = example(model, 1)

    def score(answer):
        return answer.flatten(1)[:, :7].sum(-1).tanh()

    function, inputs = entrance(model, batch, score)
    found = attribute(model, batch, score, IntegratedGradients())
    with torch.no_grad():
        moved = function(inputs) - function([torch.zeros_like(x) for x in inputs])
    total = sum(x.sum() for x in found)
    assert abs(total - moved) <= 0.01 * abs(moved) + 1e-5
    assert abs(moved) > 1e-3
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_each_step_sees_only_what_came_before(gpt):
    found = attribute_generation(gpt, PROMPT, SAID, method=InputXGradient())
    assert found.values.shape == (6 + 2, 3)
    assert (found.values[6, 0], found.values[7, 1]) == (0, 0)
    assert (found.values[:6] != 0).all()
    assert found.values[6, 1] != 0
    with torch.no_grad():
        share = gpt(torch.cat((PROMPT, SAID[None]), 1)).softmax(-1)[0]
    close(found.scores, share[[5, 6, 7], SAID])


def test_a_source_and_its_prefix_are_explained_together():
    model = model_of(tiny("transformer"))
    found = attribute_generation(model, PROMPT, SAID, bos=1, step=log_probability, method=IntegratedGradients())
    assert found.source == 6
    for t in range(3):
        seen = torch.cat((torch.tensor([[1]]), SAID[None, :t]), 1)
        function, inputs = entrance(
            model, {"inputs": PROMPT, "target": seen}, lambda answer, t=t: log_probability(answer[:, -1], int(SAID[t]))
        )
        with torch.no_grad():
            moved = function(inputs) - function([torch.zeros_like(x) for x in inputs])
        assert float(found.values[:, t].sum()) == pytest.approx(float(moved), rel=0.01, abs=1e-4)
    assert (found.values[6 + 1, 0], found.values[6, 0] != 0) == (0, True)


def test_why_this_and_not_that_is_antisymmetric(gpt):
    one = attribute_generation(gpt, PROMPT, SAID[:1], step=Against(8), method=IntegratedGradients(8))
    other = attribute_generation(
        gpt, PROMPT, torch.tensor([8]), step=Against(int(SAID[0])), method=IntegratedGradients(8)
    )
    close(one.values, -other.values)
    same = attribute_generation(gpt, PROMPT, SAID[:1], step=Against(int(SAID[0])), method=IntegratedGradients(8))
    assert same.values.abs().max() == 0


def test_subwords_and_spans_are_sums(gpt):
    found = attribute_generation(gpt, PROMPT, SAID, step=logit, method=Occlusion())
    whole = found.merged([range(len(found.values))], [range(3)])
    close(whole[0, 0], found.values.sum())
    parts = found.merged([(0, 1), (2, 3, 4, 5)], [(0,), (1, 2)])
    close(parts[1, 1], found.values[2:6, 1:].sum())
    close(found.shares().sum(0), torch.ones(3))
    with pytest.raises(BadInput, match="counted from 0"):
        found.merged([(0, 99)], [(0,)])


def test_occlusion_of_pictures_is_by_squares():
    model = model_of(tiny("vit"))
    batch = example(model, 1)
    (found,) = attribute(model, batch, lambda answer: answer[:, 0], Occlusion(8))
    hidden = batch["inputs"].clone()
    hidden[..., 8:, :8] = 0
    with torch.no_grad():
        lost = (model(**batch) - model(hidden))[0, 0]
    close(found[..., 8:, :8].sum(), lost)
    close(found[0, :, 8:, :8], (lost / 192).expand(3, 8, 8), 1e-7)


@pytest.mark.parametrize("name", ["saliency", "input x gradient", "integrated", "occlusion"])
def test_captum_says_the_same_of_a_picture(name):
    model = model_of(tiny("vit"))
    x = example(model, 1)["inputs"]
    theirs, ours, options = {
        "saliency": (attr.Saliency, Gradient(), {"abs": False}),
        "input x gradient": (attr.InputXGradient, InputXGradient(), {}),
        "integrated": (
            attr.IntegratedGradients,
            IntegratedGradients(40, within=1e9),
            {"n_steps": 40, "method": "gausslegendre"},
        ),
        "occlusion": (attr.Occlusion, Occlusion(4), {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}),
    }[name]
    (found,) = attribute(model, {"inputs": x}, lambda answer: answer[:, 2], ours)
    wanted = theirs(model).attribute(x.clone().requires_grad_(), target=2, **options)
    close(found * (48 if name == "occlusion" else 1), wanted)


def test_captum_says_the_same_of_ids(gpt):
    theirs = attr.LayerIntegratedGradients(lambda ids: gpt(ids)[:, -1].softmax(-1)[:, 4], gpt.embedding.table)
    zeros = torch.full_like(PROMPT, 0)
    gpt.embedding.table.weight.data[0] = 0
    wanted = theirs.attribute(PROMPT, baselines=zeros, n_steps=30, method="gausslegendre")
    found = attribute_generation(gpt, PROMPT, torch.tensor([4]), method=IntegratedGradients(30, within=1e9))
    close(found.values[:, 0], wanted[0].sum(-1))


def literal(queries, keys, values, factors):
    """Equations 3 to 6 of AtMan for one sample: scores, begun at 0 in each row, times the key's factor, then masked."""
    heads, count, width = queries.shape
    mixed = torch.zeros(heads, count, values.shape[-1])
    for h in range(heads):
        for n in range(count):
            row = torch.tensor([float(queries[h, n] @ keys[h, m]) / width**0.5 for m in range(count)])
            row = (row - row.min()) * factors
            share = row[: n + 1].exp() / row[: n + 1].exp().sum()
            mixed[h, n] = sum(share[m] * values[h, m] for m in range(n + 1))
    return mixed


@torch.no_grad()
def test_atman_is_its_equations(gpt):
    from everyformer.interpret.atman import Suppressed

    factors = torch.tensor([1.0, 0.1, 1.0, 1.0, 0.5, 1.0])
    at = "backbone.blocks.0.mixer"
    with (
        ef.interpret.intervene(gpt, {f"{at}.scores": Suppressed(factors[None])}),
        ef.interpret.record(gpt, f"{at}.*") as seen,
    ):
        gpt(PROMPT)
    wanted = literal(*(seen[f"{at}.{name}"][0] for name in ("queries", "keys", "values")), factors)
    close(seen[f"{at}.mixed"][0], wanted)


def test_atman_with_factor_one_loses_nothing_and_below_it_something(gpt):
    def score(answer):
        return answer[:, -1].log_softmax(-1)[:, 4]

    close(atman(gpt, {"inputs": PROMPT}, score, factor=1.0), torch.zeros(6))
    lost = atman(gpt, {"inputs": PROMPT}, score)
    assert lost.shape == (6,)
    assert (lost.abs() > 1e-6).all()
    pair = model_of(tiny("transformer"))
    batch = {"inputs": PROMPT, "target": torch.tensor([[1, 4]])}
    close(atman(pair, batch, score, factor=1.0), torch.zeros(6))
    assert atman(pair, batch, score).abs().min() > 1e-6


def test_atman_turns_down_what_is_alike():
    from everyformer.interpret.atman import suppression

    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    close(suppression(vectors, 0.1, None), 1 - 0.9 * torch.eye(4))
    factors = suppression(vectors, 0.1, 0.7)
    close(factors[0], torch.tensor([0.1, 0.1, 1.0, 1.0]))
    close(factors[2], torch.tensor([1.0, 1.0, 0.1, 1 - 0.9 * 0.8]))


def test_what_cannot_be_explained_is_said(gpt):
    with pytest.raises(BadInput, match="one sample"):
        attribute(gpt, {"inputs": PROMPT.expand(2, -1)}, lambda answer: answer[:, -1, 0])
    with pytest.raises(BadInput, match="needs bos="):
        attribute_generation(model_of(tiny("transformer")), PROMPT, SAID)
    with pytest.raises(BadInput, match="at least one generated token"):
        attribute_generation(gpt, PROMPT, SAID[:0])
    from everyformer.interpret.atman import Suppressed

    with pytest.raises(DoesNotFit, match="keep all their tokens"):
        Suppressed(torch.ones(1, 5))(torch.zeros(1, 2, 6, 6))


def test_taps_are_found_after_a_copy(gpt):
    import copy

    other = copy.deepcopy(gpt)
    taps = other.backbone.blocks[0].mixer.taps
    assert isinstance(taps, Taps)
    with ef.interpret.record(other, "backbone.blocks.0.mixer.weights"):
        assert taps.watched
        assert not gpt.backbone.blocks[0].mixer.taps.watched
