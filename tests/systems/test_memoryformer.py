"""`memoryformer`: tables looked up by signs, against the paper's equations and the linear map that they can be."""

import itertools

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta
from support.parity import perturb
from support.parts import close


def layer(inputs=12, outputs=5, **options):
    torch.manual_seed(0)
    return ef.feedforward.MemoryLayer(inputs, outputs, **{"bits": 4, **options})


def test_equals_equations_4_to_7():
    """The softmax over all 2^4 sign vectors, written out."""
    part, values = layer(temperature=0.7), torch.randn(2, 3, 12)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).flip(1)
    wanted = torch.zeros(2, 3, 5)
    for k, table in enumerate(part.table.view(3, 16, 5)):
        piece = values[..., 4 * k : 4 * k + 4]
        chance = (piece @ signs.T / 0.7).softmax(-1)
        address = ((piece >= 0) * torch.tensor([1, 2, 4, 8])).sum(-1)
        wanted += chance.gather(-1, address[..., None]) * table[address]
        assert (signs[address] == torch.where(piece >= 0, 1.0, -1.0)).all()
    close(part(values), wanted)


def test_cold_it_is_the_sum_of_the_rows():
    part, values = layer(temperature=1e-6), torch.randn(1, 2, 12)
    rows = ((values.unflatten(-1, (3, 4)) >= 0) * torch.tensor([1, 2, 4, 8])).sum(-1) + torch.arange(3) * 16
    close(part(values), part.table[rows].sum(-2))


def test_on_signs_it_can_be_any_linear_map():
    part, weight = layer(bits=1, temperature=1e-6), torch.randn(5, 12)
    with torch.no_grad():
        part.table.copy_(torch.stack((-weight.T, weight.T), 1).flatten(0, 1))
    values = torch.randint(0, 2, (2, 3, 12)) * 2.0 - 1
    close(part(values), values @ weight.T)


def test_only_addressed_rows_learn():
    part, values = layer(), torch.randn(1, 1, 12)
    part(values).square().sum().backward()
    assert (part.table.grad.abs().sum(1) > 0).sum() == 3


def test_nothing_is_multiplied_but_attention_and_the_head():
    """Of the FLOPs that are counted, matrix products, none are the feedforward's or the projections'."""
    cost = flops(on_meta(ef.design("memoryformer", "nano", vocabulary=20)))
    assert not any("feedforward" in name or "projection" in name for name in cost if cost[name])
    assert cost["backbone.blocks.0.mixer"] == 4 * 16 * 16 * 128


def test_the_hidden_pieces_have_two_bits_more():
    feedforward = perturb(ef.create("memoryformer", "nano", vocabulary=20)).backbone.blocks[0].feedforward
    assert feedforward.projection.table.shape == (16 * 256, 160)
    assert feedforward.back.table.shape == (16 * 1024, 128)


def test_a_token_addresses_the_same_rows_wherever_it_stands():
    """Places are turned into queries and keys, after the tables."""
    model, found = ef.create("memoryformer", "nano", vocabulary=20, seed=0), []
    for each in model.backbone.blocks[0].mixer.projection:
        each.register_forward_hook(lambda m, given, out: found.append(out))
    model(torch.full((1, 7), 3))
    assert len(found) == 3
    for each in found:
        close(each[:, 1:], each[:, :1].expand(-1, 6, -1))


def test_pieces_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="12 values do not fall into pieces of 5"):
        layer(bits=5)
