import pytest
import torch
from torch.nn import functional as F

from everyformer.objectives.cross_entropy import ROWS, cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [5, 2 * ROWS + 3])
def test_equals_torch_in_value_and_gradient(smoothing: float, rows: int) -> None:
    logits = torch.randn(rows, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 11, (rows,))
    labels[::4] = -100
    ours = cross_entropy(logits, labels, smoothing)
    (grad,) = torch.autograd.grad(3 * ours, logits)
    theirs = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing, ignore_index=-100)
    (expected,) = torch.autograd.grad(3 * theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad, expected)


def test_leaves_the_logits_as_they_were() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    before = logits.detach().clone()
    cross_entropy(logits, torch.tensor([0, 1, 2, -100]), 0.1).backward()
    assert torch.equal(logits.detach(), before)


def test_no_label_counts_nothing() -> None:
    logits = torch.randn(3, 7, requires_grad=True)
    total = cross_entropy(logits, torch.full((3,), -100))
    total.backward()
    assert total == 0
    assert not logits.grad.any()
