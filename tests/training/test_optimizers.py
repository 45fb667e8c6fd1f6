"""Which weights decay, Muon against its equations, and the optimisers' state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.errors import UnknownName
from everyformer.recipe import Training
from everyformer.training.muon import Muon, orthogonalise
from everyformer.training.optimizers import find_optimizer, restore, split, state_of


def names(module: nn.Module, chosen: list[nn.Parameter]) -> set[str]:
    wanted = {id(p) for p in chosen}
    return {name for name, p in module.named_parameters() if id(p) in wanted}


def test_matrices_decay_and_vectors_and_tables_do_not() -> None:
    model = ef.create("vit", size="tiny", image=16, patch=8, width=8, depth=1, heads=2, classes=3, seed=0)
    decayed, plain = (names(model, chosen) for chosen in split(model))
    assert decayed | plain == {name for name, _ in model.named_parameters()}
    assert all(name.endswith("weight") for name in decayed)
    assert "head.classify.weight" in decayed
    assert all(p.ndim == 1 or "embedding" in n for n, p in model.named_parameters() if n in plain)
    language = ef.create("gpt", vocabulary=5, length=4, width=8, depth=1, heads=2, seed=0)
    assert "embedding.table.weight" in names(language, split(language)[1])


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    assert names(model, [p for group in split(model) for p in group]) == {"1.weight", "1.bias"}


def by_singular_values(matrix: Tensor) -> Tensor:
    """The quintic applied five times to each singular value, the singular vectors kept."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / matrix.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3)])
def test_orthogonalise_moves_singular_values_alone(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(orthogonalise(matrix), by_singular_values(matrix))
    values = torch.linalg.svdvals(orthogonalise(torch.randn(16, 24, dtype=torch.float64)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_is_its_equations() -> None:
    weight = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))
    expected, momentum = weight.detach().clone(), torch.zeros(4, 6, dtype=torch.float64)
    optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.2)
    for _ in range(3):
        gradient = torch.randn(4, 6, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + gradient
        update = by_singular_values(gradient + 0.9 * momentum)
        expected = expected - 0.1 * 0.2 * expected - 0.1 * 0.2 * 6**0.5 * update
    torch.testing.assert_close(weight.detach(), expected)


def test_muon_takes_the_matrices_between_embedding_and_head() -> None:
    model = ef.create("vit", size="tiny", image=16, patch=8, width=8, depth=1, heads=2, classes=3, seed=0)
    inner, outer = find_optimizer("muon")(model, Training(steps=1))
    taken = names(model, [p for group in inner.param_groups for p in group["params"]])
    rest = names(model, [p for group in outer.param_groups for p in group["params"]])
    assert taken
    assert all(name.startswith("backbone.blocks") and name.endswith("weight") for name in taken)
    assert taken | rest == {name for name, _ in model.named_parameters()}
    assert not taken & rest
    assert "head.classify.weight" in rest


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_goes_there_and_back(name: str) -> None:
    def step(model: nn.Module, used: list[torch.optim.Optimizer], seed: int) -> None:
        torch.manual_seed(seed)
        model.zero_grad()
        model(torch.randn(2, 3)).square().sum().backward()
        for optimizer in used:
            optimizer.step()

    torch.manual_seed(1)
    first = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    second = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    make = find_optimizer(name)
    used = make(first, Training(steps=1))
    step(first, used, 2)
    again = make(second, Training(steps=1))
    second.load_state_dict(first.state_dict())
    restore(second, again, {key: value.clone() for key, value in state_of(first, used).items()})
    step(first, used, 3)
    step(second, again, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_a_misspelt_optimizer() -> None:
    with pytest.raises(UnknownName, match="unknown optimizer 'adam'; did you mean 'adamw'"):
        find_optimizer("adam")
