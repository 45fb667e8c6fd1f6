"""`turbovit`: units that do not see each other, queries that are pooled, sizes that are searched."""

import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.training.architectures import Space, evolve, grouped
from support.agreement import close, perturb

SIZES = {"classes": 3, "image": 64, "channels": 1, "width": 8, "depths": (1, 1), "unit": 8, "local": 1, "ratio": 2.0}


def test_attention_in_units_is_attention_under_a_block_diagonal_mask():
    mixer = perturb(ef.create("turbovit", **SIZES)).backbone.stages[0].blocks[0].mixer
    values = torch.randn(1, 256, 8)
    unit = torch.arange(16)[:, None] // 8 * 2 + torch.arange(16) // 8
    allowed = unit.flatten()[:, None] == unit.flatten()
    query, key, value = mixer.mixer.qkv(values)[0].chunk(3, -1)
    weights = (query @ key.mT * 8**-0.5).masked_fill(~allowed, -torch.inf).softmax(-1)
    close(mixer(ef.Tokens(values, grid=(16, 16)))[0], mixer.mixer.output(weights @ value))


def test_a_unit_sees_no_other_and_queries_are_pooled_between_stages():
    model = perturb(ef.create("turbovit", **SIZES))
    pictures = torch.randn(1, 1, 64, 64)
    changed = pictures.clone()
    changed[..., 40:, 40:] = 0
    before, after = (list(model.stages(each).values()) for each in (pictures, changed))
    same = (before[0].values == after[0].values).all(-1)[0].view(16, 16)
    assert same[:8, :8].all()
    assert not same[8:, 8:].any()
    assert (before[0].grid, before[1].grid) == ((16, 16), (8, 8))


def test_the_search_keeps_its_limit():
    def made(chosen):
        return ef.design("turbovit", **{**SIZES, **grouped(chosen)})

    def size(design):
        return float(parameters(on_meta(design)))

    space = Space(made, {"width": (8, 16), "depths.0": (1, 2), "depths.1": (1, 2), "unit": (4, 8)})
    limit = size(made(space.largest())) / 2
    found = evolve(space, lambda chosen: size(made(chosen)), limit=limit, cost=size, first=3, generations=1, children=1)
    assert all(each.cost <= limit for each in found)
    assert found[0].score == max(each.score for each in found)
