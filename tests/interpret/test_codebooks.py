"""Codebooks: the mean of the codes most alike, straight gradients, edits by code."""

import copy

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.errors import DoesNotFit
from everyformer.interpret import Coded, codebooks, intervene, record
from support.parts import close


def literal(coded, values):
    """Piece by piece: the codes sorted by product over length, the first ones averaged."""
    rows = []
    for value in values:
        pieces = value.chunk(coded.groups)
        means = []
        for piece, codes in zip(pieces, coded.codes, strict=True):
            best = sorted(codes, key=lambda code: -float(code @ piece / code.norm()))[: coded.active]
            means.append(torch.stack(best).mean(0))
        rows.append(coded.matrix @ torch.cat(means) + coded.bias)
    return torch.stack(rows)


@pytest.mark.parametrize(("groups", "active"), [(1, 1), (2, 3)])
def test_it_is_the_literal_formula_and_its_gradient_is_straight(groups, active):
    torch.manual_seed(0)
    coded = Coded(6, 4, groups=groups, codes=9, active=active)
    values = torch.randn(5, 6, requires_grad=True)
    close(coded(values), literal(coded, values))
    grad = torch.randn(5, 4)
    coded(values).backward(grad)
    close(values.grad, grad @ coded.matrix)
    assert coded.codes.grad.abs().sum() > 0


def test_the_loss_draws_the_codes_and_not_the_values():
    torch.manual_seed(0)
    coded, values = Coded(4, 3, codes=5), torch.randn(7, 4, requires_grad=True)
    with listening(coded) as heard:
        coded(values)
    heard[0].backward()
    assert values.grad is None
    assert coded.codes.grad is not None


def test_codes_that_start_at_the_values_reproduce_the_model():
    """Values of one length each are most like themselves."""
    coded = Coded(4, 4, codes=500)
    values = F.normalize(torch.randn(6, 4), dim=-1)
    coded.begin(values)
    close(coded(values), F.linear(values, coded.matrix, coded.bias))


def test_codes_of_a_model_are_read_forced_and_forbidden():
    model = ef.create("gpt", vocabulary=10, length=6, width=16, depth=2, heads=2, hidden=24, seed=0).eval()
    before = copy.deepcopy(model.state_dict())
    ids = torch.randint(0, 10, (2, 6), generator=torch.Generator().manual_seed(0))
    made = codebooks(model, {"inputs": ids}, codes=20, active=2)
    assert {path.rpartition(".")[2] for path in made} == {"output", "down"}
    assert torch.equal(made["backbone.blocks.0.mixer.output"].weight, before["backbone.blocks.0.mixer.output.weight"])
    place = "backbone.blocks.1.mixer.output"
    with record(model, f"{place}.chosen") as seen:
        plain = model(ids)
    chosen = seen[f"{place}.chosen"]
    assert chosen.shape == (2, 6, 2, 2)
    with intervene(model, {f"{place}.chosen": chosen.roll(1, 0)}):
        assert not torch.equal(model(ids), plain)
    barred = int(chosen[0, 0, 0, 0])

    def bar(likeness):
        return likeness.index_fill(-1, torch.tensor(barred), float("-inf"))

    with intervene(model, {f"{place}.likeness": bar}), record(model, f"{place}.chosen") as seen:
        model(ids)
    assert not (seen[f"{place}.chosen"] == barred).any()


def test_what_has_no_place_for_codes_is_refused():
    with pytest.raises(DoesNotFit, match="this model has neither"):
        codebooks(torch.nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match="groups divide the inputs"):
        Coded(5, 5, groups=2)
