"""Dense-sparse factors: the pursuit is the textbook's, the limits are those of linear algebra, and training is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.compression import DenseSparse, LowRank, StraightThrough
from everyformer.compression.factors import factored, pursuit, spread
from everyformer.costs import memory
from everyformer.objectives import Classification
from support.agreement import close


def test_the_pursuit_is_the_orthogonal_one() -> None:
    from sklearn.linear_model import orthogonal_mp

    torch.manual_seed(0)
    weight, atoms = torch.randn(6, 10).double(), torch.randn(8, 10).double()
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    places, values = pursuit(weight, atoms, 3)
    wanted = orthogonal_mp(atoms.T.numpy(), weight.T.numpy(), n_nonzero_coefs=3)
    close(spread(places, values, 8), torch.from_numpy(wanted.T))


def test_all_atoms_for_each_output_are_a_map_of_low_rank() -> None:
    """And all atoms there can be give the matrix itself."""
    torch.manual_seed(0)
    plain = torch.nn.Linear(12, 9)
    for rank in (4, 9):
        ours, theirs = DenseSparse(12, 9, rank=rank, nonzeros=rank), LowRank(12, 9, rank=rank)
        for each in (ours, theirs):
            each.inherit(plain)
        close(ours.weight, theirs.weight)
    close(ours.weight, plain.weight)


def test_rows_of_several_subspaces_are_better_kept_than_by_rank() -> None:
    """At equal storage, for a weight whose rows lie in three planes of their own."""
    torch.manual_seed(0)
    planes = torch.randn(3, 2, 32)
    weight = torch.cat([torch.randn(32, 2) @ plane for plane in planes]).double()
    atoms, places, values = factored(weight, 8, 2)
    sparse = (weight - spread(places, values, 8) @ atoms).square().sum()
    left = torch.linalg.svdvals(weight).square()
    numbers = atoms.numel() + 2 * values.numel()
    rank = numbers // (32 + 96)
    assert sparse < 0.5 * left[rank:].sum()
    assert (spread(places, values, 8) != 0).sum(1).le(2).all()


def test_the_gradient_passes_as_if_all_were_used() -> None:
    torch.manual_seed(0)
    form, inputs = StraightThrough(6, 5, rank=4, nonzeros=2), torch.randn(3, 6)
    with torch.no_grad():
        form.latent.add_(torch.randn(5, 4) * 0.1)
    assert ((form.taken != 0).sum(1) == 2).all()
    out = form(inputs)
    cotangent = torch.randn(3, 5)
    (out * cotangent).sum().backward()
    close(form.latent.grad, cotangent.T @ form.atoms(inputs).detach())
    stored = DenseSparse(6, 5, rank=4, nonzeros=2)
    stored.inherit(form)
    close(stored(inputs), out)
    assert memory(stored) == 4 * (4 * 6 + 5 * 2 + 5) + 5 * 2


def test_training_mends_what_the_factors_lost() -> None:
    model: Any = ef.create("vit", classes=3, image=16, patch=4, width=16, depth=1, heads=2, ratio=2, seed=0).eval()
    pictures = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    data = [{"inputs": pictures, "labels": torch.arange(12) % 3}]
    losses = []
    for steps in (0, 30):
        made = ef.compression.dsformer(model, data, Classification(), rank=6, nonzeros=2, steps=steps, lr=1e-2)
        assert type(made.get_submodule("backbone.blocks.0.mixer.qkv")) is DenseSparse
        losses.append(float(Classification()(made, data[0]).total))
    assert losses[1] < 0.8 * losses[0]
    assert memory(made) < memory(model)


def test_factors_that_there_are_not_are_refused() -> None:
    for options in ({"rank": 0}, {"rank": 7}, {"rank": 3, "nonzeros": 4}):
        with pytest.raises(ef.EveryformerError, match="has 1 to 6 atoms, of which an output takes 1 to all"):
            ef.spec(DenseSparse, **options).build(6, 8, True)
