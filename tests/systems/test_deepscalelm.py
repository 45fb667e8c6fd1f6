"""`deepscalelm`: the formulas against random draws, and hundreds of layers at variance one."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.models import moments
from everyformer.models.moments import Moments
from everyformer.tokens import Tokens
from support.parts import close

SAMPLES = 200_000


def pairs(given):
    """Many draws of one channel of two tokens (2, n)."""
    both = torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = given.correlation
    second = r * both[0] + math.sqrt(1 - r * r) * both[1]
    return torch.stack((both[0], second)) * math.sqrt(given.variance) + given.mean


def agree(found, wanted, tolerance=0.02):
    mean = found.mean(1).mean().item()
    centred = found - mean
    variance = centred.square().mean().item()
    assert mean == pytest.approx(wanted.mean, abs=tolerance * math.sqrt(wanted.variance))
    assert variance == pytest.approx(wanted.variance, rel=tolerance)
    assert (centred[0] * centred[1]).mean().item() == pytest.approx(wanted.covariance, abs=tolerance * wanted.variance)


@pytest.mark.parametrize("r", [0.0, 0.4, 0.9])
def test_relu_and_dropout(r):
    given = Moments(0.0, 1.7, r)
    torch.manual_seed(7)
    after = pairs(given).relu()
    agree(after, moments.relu(given))
    agree(torch.nn.functional.dropout(after, 0.3), moments.dropout(moments.relu(given), 0.3))


@pytest.mark.parametrize("r", [0.0, 0.6])
def test_linear(r):
    given = Moments(0.4, 1.3, r)
    inputs = pairs(given).unflatten(1, (-1, 50))
    weight = torch.randn(inputs.shape[1], 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3
    agree((inputs * weight).sum(-1), moments.linear(given, 50, 0.09), 0.05)


def test_softmax_of_many_keys():
    scores = 0.5 * torch.randn(2000, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = scores.softmax(-1)
    wanted = moments.softmax(0.25, 0.0, 400)
    assert weights.mean().item() == pytest.approx(wanted.mean)
    assert weights.var().item() == pytest.approx(wanted.variance, rel=0.03)


def trunk(depth, post_norm, plain=False):
    """Variance at the end and gradients at the first and the last layer, of random tokens through `depth` layers."""
    design = ef.design("deepscalelm", vocabulary=500, length=32, width=64, depth=depth, heads=4, post_norm=post_norm)
    if plain:
        kind = ef.spec(ef.norms.PostNorm if post_norm else ef.norms.PreNorm)
        design = design.swap("backbone.blocks.*.residual", kind).set("start", ef.spec(ef.models.Xavier))
    model = design.set("backbone.norm", None).build(seed=0)
    inputs = torch.randint(0, 500, (2, 32), generator=torch.Generator().manual_seed(0))
    answer = model.features(inputs).values
    (answer * torch.randn(answer.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    norms = [model.backbone.blocks[i].feedforward.down.weight.grad.norm().item() for i in (0, -1)]
    return answer.var().item(), max(norms) / min(norms)


@pytest.mark.parametrize("post_norm", [False, True])
def test_hundred_layers_keep_variance_and_gradients(post_norm):
    variance, ratio = trunk(100, post_norm)
    assert 0.8 < variance < 1.2
    assert ratio < 2


def test_the_usual_start_keeps_neither():
    assert trunk(100, post_norm=True, plain=True)[1] > 5
    variance, ratio = trunk(100, post_norm=False, plain=True)
    assert variance > 50
    assert ratio > 10


@pytest.mark.parametrize("part", [ef.norms.UnitPreNorm, ef.norms.UnitPostNorm])
def test_the_shares_add_up_to_one(part):
    made = part(8, share=0.3)
    assert made.old**2 + made.new**2 == pytest.approx(1.0, abs=1e-12)
    values = torch.randn(2, 3, 8)
    found = made(Tokens(values), lambda t: t.values.tanh(), None).values
    norm = made.norm
    if part is ef.norms.UnitPreNorm:
        close(found, 0.7**0.5 * values + 0.3**0.5 * norm(values).tanh())
    else:
        close(found, norm(0.7**0.5 * values + 0.3**0.5 * values.tanh()))


def by_the_authors_code(depth, rate, first=0.221):
    """Their recursion for the variance of values and outputs, times the width (`sigma_attn_v_out`)."""
    keep, r, found = 1 - 1 / depth, first * (1 - rate), []
    for _ in range(depth):
        found.append(math.sqrt((1 - rate) / r))
        r = keep * r + (1 - keep) * (1 - rate)
        out = (1 - rate) * (r + (math.sqrt(1 - r * r) - r * math.acos(r)) / math.pi)
        r = keep * r + (1 - keep) * out
    return found


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_weights_start_as_the_authors_start_them(rate):
    model = ef.create("deepscalelm", vocabulary=50, length=16, width=96, depth=4, heads=4, dropout=rate, seed=0)
    for block, wanted in zip(model.backbone.blocks, by_the_authors_code(4, rate), strict=True):
        attention, mlp = block.mixer, block.feedforward
        for weight in (attention.qkv.weight[-96:], attention.output.weight):
            assert weight.var().item() * 96 == pytest.approx(wanted, rel=0.06)
        assert attention.qkv.weight[:192].var().item() * 96 == pytest.approx(1.0, rel=0.06)
        for weight in (mlp.up.weight, mlp.down.weight):
            assert weight.var().item() * 96 == pytest.approx(math.sqrt((1 - rate) / 2), rel=0.06)
    assert model.embedding.table.weight.var().item() == pytest.approx((1 - rate) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [(ef.spec(ef.norms.UnitPreNorm, share=1.5), "0 to 1; given 1.5"), (ef.spec(ef.models.DeepScale, correlation=0.0), "given 0.0")],
    ids=["share", "correlation"],
)  # fmt: skip
def test_what_cannot_be_is_refused(spec, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        spec.build(*((8,) if spec.part is ef.norms.UnitPreNorm else ()))
