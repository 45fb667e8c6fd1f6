"""Weights left out: as the papers' equations say, in the bytes that are left, and with nothing left out no change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everyformer as ef
from everyformer.compression.compensation import moments
from everyformer.compression.pruning import highest, importance, pruned
from everyformer.compression.sparse import Sparse
from everyformer.costs import memory
from support.agreement import close

METHODS = [ef.compression.wanda, ef.compression.sparsegpt]


@pytest.fixture(scope="module")
def vit() -> Any:
    return ef.create("vit", classes=3, image=16, patch=4, width=32, depth=2, heads=4, seed=0).eval()


def pictures(count: int = 8) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_wanda_is_its_equation() -> None:
    torch.manual_seed(0)
    weight, inputs = torch.randn(5, 8), torch.randn(30, 8) * torch.arange(1, 9)
    mask = highest(importance(weight, inputs), 0.5, None)
    pairs = highest(importance(weight, inputs), 0.5, 4)
    for i in range(5):
        scores = [float(weight[i, j].abs()) * float(inputs[:, j].square().sum().sqrt()) for j in range(8)]
        assert mask[i].nonzero().flatten().tolist() == sorted(sorted(range(8), key=scores.__getitem__)[4:])
        for at in (0, 4):
            best = sorted(range(at, at + 4), key=scores.__getitem__)[2:]
            assert pairs[i, at : at + 4].nonzero().flatten().add(at).tolist() == sorted(best)


@pytest.mark.parametrize("of", [None, 4])
def test_sparsegpt_is_the_elimination_of_one_column_after_the_other(of: int | None) -> None:
    """With the inverse Hessian of the columns left, formed anew each time (SparseGPT, equations 2 and 4)."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(3, 8).double(), (torch.randn(40, 8) @ torch.randn(8, 8)).double()
    hessian = moments(inputs).double()
    changed, mask = pruned(weight, hessian, 0.5, of)
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(8)
    left, group = weight.clone(), of or 8
    for i in range(8):
        inverse = torch.linalg.inv(hessian[i:, i:])
        if i % group == 0:
            scores = torch.stack(
                [left[:, j] ** 2 / torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(i, i + group)], 1
            )
            if of is None:
                wanted = (scores >= scores.flatten().sort(descending=True)[0][11]).nonzero().tolist()
            else:
                wanted = [[row, int(c)] for row in range(3) for c in scores[row].topk(2)[1].sort()[0]]
            assert mask[:, i : i + group].nonzero().tolist() == wanted
        error = (left[:, i] * ~mask[:, i]) / inverse[0, 0]
        left[:, i:] -= error[:, None] * inverse[0]
    close(changed * mask, left * mask, "weights")
    error = (inputs @ (changed * mask - weight).T).square().mean()
    assert error < (inputs @ (weight * mask - weight).T).square().mean()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_left_out_changes_nothing(vit: Any, method: Any) -> None:
    close(method(vit, [pictures()], sparsity=0.0)(pictures(3)), vit(pictures(3)))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_is_what_is_kept(vit: Any, method: Any) -> None:
    """Half the weights and a bit for each; the plain map with the zeros in it gives the same."""
    made = method(vit, [pictures()], of=4)
    form = made.backbone.blocks[0].mixer.qkv
    assert isinstance(form, Sparse)
    assert (form.weight.view(-1, 4) != 0).sum(1).eq(2).all()
    assert memory(form) == 96 * 32 * 4 // 2 + 96 * 4 + 96 * 4
    plain = ef.remove(method(vit, [pictures()], of=4), "backbone.blocks.0.mixer.qkv")
    assert torch.equal(plain(pictures(3)), made(pictures(3)))
    answer: Tensor = made(pictures(3))
    answer.sum().backward()
    assert form.values.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"sparsity": 1.0}, "from 0 to below 1; given 1.0"), ({"sparsity": 0.3, "of": 4}, "given of=4 and sparsity=0.3"), ({"of": 6}, "the 32 inputs of '.*qkv' are not groups of 6")],
)  # fmt: skip
def test_shares_that_there_are_not_are_refused(vit: Any, options: Any, said: str) -> None:
    for method in METHODS:
        with pytest.raises(ef.BadInput, match=said):
            method(vit, [pictures()], **options)
    with pytest.raises(ef.EveryformerError, match="given keep=0"):
        Sparse(4, 4, keep=0)
