import torch

from everyformer.dropout import Dropout, dropout, scaled_mask


def test_rate_scale_and_independence_of_neighbours() -> None:
    torch.manual_seed(0)
    mask = scaled_mask(torch.ones(400_000), 0.3)
    zero = (mask == 0).float()
    assert all(abs(float(zero[i::4].mean()) - 0.3) < 0.006 for i in range(4))
    assert abs(float(mask.mean()) - 1) < 0.005
    assert mask.unique().numel() == 2
    for gap in (1, 2, 3, 4):
        together = float((zero[:-gap] * zero[gap:]).mean())
        assert abs(together - 0.09) < 0.004


def test_gradient_passes_where_values_pass() -> None:
    values = torch.randn(1001, requires_grad=True)
    kept = dropout(values, 0.5)
    (grad,) = torch.autograd.grad(kept.sum(), values)
    torch.testing.assert_close(kept, values * grad)


def test_nothing_happens_outside_training() -> None:
    values = torch.randn(7)
    assert torch.equal(Dropout(0.9).eval()(values), values)


def test_same_seed_same_zeros() -> None:
    torch.manual_seed(1)
    first = dropout(torch.ones(100), 0.4)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(torch.ones(100), 0.4))
