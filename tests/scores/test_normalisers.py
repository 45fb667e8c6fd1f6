"""Each normaliser against its definition, and at its limits."""

import pytest
import torch

import everyformer as ef
from everyformer.contracts import Normaliser
from everyformer.registry import parts

SCORES = torch.randn(2, 3, 4, 9, generator=torch.Generator().manual_seed(0)) * 2


def built(name, **options):
    return ef.spec(getattr(ef.scores, name), **options).build(3, 8)


def bisected(scores, weight):
    """Weights max(...)(s - tau) whose sum is 1, tau found by halving."""
    low, high = scores.amax(-1, keepdim=True) - 60, scores.amax(-1, keepdim=True)
    for _ in range(200):
        middle = (low + high) / 2
        above = weight(scores - middle).sum(-1, keepdim=True) >= 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return weight(scores - low)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("Sparsemax", lambda x: x.clamp(min=0)), ("Entmax", lambda x: (x / 2).clamp(min=0).square())],
)
@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
def test_sparse_weights_are_those_that_sum_to_one(name, weight, spread):
    scores = SCORES.double() * spread
    scores[0, 0, 0] = 1.5  # all equal
    wanted = bisected(scores, weight)
    found = built(name)(scores.float())
    torch.testing.assert_close(found, wanted.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 4))


def test_entmax_is_sparser_than_softmax_and_less_than_sparsemax():
    counts = [(built(name)(SCORES) > 0).sum().item() for name in ("Sparsemax", "Entmax")]
    assert counts[0] < counts[1] < SCORES.numel()


def test_sigmoid_of_equal_scores_gives_each_its_share():
    weights = built("Sigmoid")(torch.zeros(1, 3, 4, 9))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 10))


def test_relu():
    torch.testing.assert_close(built("ReLU", power=2)(SCORES), SCORES.clamp(min=0) ** 2 / 9)


def test_power_is_blind_to_scale_and_sign():
    power = built("Power", power=4, eps=0.0)
    plain = SCORES.double() ** 4 / (SCORES.double() ** 4).sum(-1, keepdim=True)
    torch.testing.assert_close(power(SCORES), plain.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(power(SCORES * -300), power(SCORES), atol=1e-6, rtol=0)
    with pytest.raises(ef.EveryformerError, match="even"):
        ef.spec(ef.scores.Power, power=3).build(3, 8)


def test_clipped_without_stretch_is_softmax():
    torch.testing.assert_close(built("Clipped", alpha=0.0)(SCORES), SCORES.softmax(-1))
    clipped = built("Clipped", alpha=4.0)(SCORES)
    torch.testing.assert_close(clipped, ((1 + 4 / 9) * SCORES.softmax(-1) - 4 / 9).clamp(0, 1))
    assert (clipped == 0).any()


def test_a_sink_of_minus_infinity_is_softmax_and_of_zero_is_off_by_one():
    torch.testing.assert_close(built("Sink", start=-1e4)(SCORES), SCORES.softmax(-1))
    off_by_one = built("Sink", learned=False)(SCORES)
    torch.testing.assert_close(off_by_one, SCORES.exp() / (1 + SCORES.exp().sum(-1, keepdim=True)))


@pytest.mark.parametrize("name", [n for n, p in parts("scores").items() if issubclass(p, Normaliser)])
def test_scores_far_apart_stay_finite(name):
    for spread in (1e4, 1e-30):
        scores = (SCORES * spread).requires_grad_()
        weights = built(name)(scores)
        weights.square().sum().backward()
        assert weights.isfinite().all()
        assert scores.grad.isfinite().all()


def test_top_k_is_softmax_over_the_largest():
    found = built("TopK", count=3)(SCORES)
    for row, weights in zip(SCORES.flatten(0, 2), found.flatten(0, 2), strict=True):
        best = sorted(range(9), key=row.tolist().__getitem__)[-3:]
        wanted = torch.zeros(9)
        wanted[best] = row[best].softmax(0)
        torch.testing.assert_close(weights, wanted)
    allowed = torch.arange(9)[None, None, None] < torch.tensor([0, 1, 2, 9])[None, None, :, None]
    few = built("TopK", count=3)(SCORES, allowed)
    torch.testing.assert_close(
        few[:, :, :3], SCORES.masked_fill(~allowed, -1e30).softmax(-1)[:, :, :3] * allowed[:, :, :3]
    )
    assert torch.equal(built("TopK", count=9)(SCORES), SCORES.softmax(-1))
    with pytest.raises(ef.EveryformerError, match="at least one key; given count=0"):
        built("TopK", count=0)
