"""Depth from other views: each step against its equation written out, and against rendered rooms whose truth is exact."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.data.scenes import lens_of, render, render_views
from everyformer.grids import as_map, as_tokens
from everyformer.heads import convex
from everyformer.objectives import ViewSynthesis
from everyformer.views import dissimilarity, lifted, projected, roughness, synthesised
from support.agreement import close, perturb, same_as_function
from support.systems import model_of, tiny

SIDE = 48


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def rendered(seed, shift, **options):
    """A room from two places: both pictures (2, 1, 3, Y, X) from 0 to 1, the depth of the first, the pose and the lens."""
    made = render_views(seed, ((0.0, 0.0, 0.0), shift), side=SIDE, **options)
    pictures = torch.from_numpy(np.stack([each.picture for each in made])).permute(0, 3, 1, 2)[:, None] / 255
    pose = torch.cat((torch.eye(3), -torch.tensor([shift]).T), 1)[None]
    return pictures, torch.from_numpy(made[0].depth)[None], pose, torch.from_numpy(lens_of(SIDE)).float()[None]


def test_the_gate_equals_the_equations_and_sees_23_cells():
    mixer = perturb(ef.spec(ef.mixers.LargeKernel).build(4))
    tokens = as_tokens(drawn(2, 4, 30, 31))

    def written(weights, values):
        def linear(name, x):
            return x @ weights[f"{name}.weight"].mT + weights[f"{name}.bias"]

        def spread(x, name, apart):
            weight = weights[f"{name}.weight"]
            half = apart * (weight.shape[-1] // 2)
            padded = F.pad(x, (half,) * 4)
            total = weights[f"{name}.bias"][:, None, None]
            for row in range(weight.shape[2]):
                for column in range(weight.shape[3]):
                    part = padded[:, :, row * apart :, column * apart :][:, :, : x.shape[2], : x.shape[3]]
                    total = total + weight[:, 0, row, column, None, None] * part
            return total

        gated = F.gelu(linear("enter", values))
        seen = spread(spread(gated.mT.unflatten(2, (30, 31)), "near", 1), "far", 3)
        return linear("output", gated * linear("across", seen.flatten(2).mT))

    class OnGrid(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.update(mixer)

        def update(self, part):
            for name, module in part.named_children():
                self.add_module(name, module)

        def forward(self, values):
            return mixer(tokens.update(values))

    same_as_function(OnGrid(), written, tokens.values)
    inputs = tokens.values.clone().requires_grad_()
    middle = 15 * 31 + 15
    mixer(tokens.update(inputs))[0, middle].sum().backward()
    rows, columns = as_map(tokens.update(inputs.grad))[0].abs().sum(0).nonzero().T
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [4, 26, 4, 26]


def test_learned_up_sampling_is_a_mean_of_neighbours():
    cells, logits = drawn(2, 3, 4, 5), drawn(2, 9 * 4, 4, 5, seed=1) * 8
    found = convex(cells, logits, 2)
    for row in range(8):
        for column in range(10):
            y, x = row // 2, column // 2
            shares = logits.view(2, 9, 2, 2, 4, 5)[:, :, row % 2, column % 2, y, x].softmax(1)
            near = [(min(max(y + a, 0), 3), min(max(x + b, 0), 4)) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            wanted = sum(shares[:, None, i] * cells[:, :, a, b] for i, (a, b) in enumerate(near))
            close(found[:, :, row, column], wanted)
    close(convex(torch.full_like(cells, 0.3), logits, 2), torch.full((2, 3, 8, 10), 0.3))


def test_a_view_is_put_together_point_by_point():
    view, depth, lens = (
        drawn(1, 2, 6, 7),
        2 + drawn(1, 6, 7, seed=1),
        torch.tensor([[[5.0, 0, 3.2], [0, 4, 3], [0, 0, 1]]]),
    )
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.1, -0.05], [-0.1, 0, 0.02], [0.05, -0.02, 0]]))
    pose = torch.cat((turn, torch.tensor([[0.3], [-0.2], [0.1]])), 1)[None]
    found = synthesised(view, depth, pose, lens)
    for row in range(6):
        for column in range(7):
            point = torch.tensor([(column + 0.5 - 3.2) / 5, (row + 0.5 - 3) / 4, 1.0]) * depth[0, row, column]
            moved = turn @ point + pose[0, :, 3]
            x = min(max((5 * moved[0] / moved[2] + 3.2 - 0.5).item(), 0), 6)
            y = min(max((4 * moved[1] / moved[2] + 3 - 0.5).item(), 0), 5)
            wanted = 0
            for a, b in ((math.floor(y), math.floor(x)), (math.floor(y), math.floor(x) + 1),
                         (math.floor(y) + 1, math.floor(x)), (math.floor(y) + 1, math.floor(x) + 1)):  # fmt: skip
                wanted = wanted + (1 - abs(y - a)) * (1 - abs(x - b)) * view[0, :, min(a, 5), min(b, 6)]
            close(found[0, :, row, column], wanted)
    close(synthesised(view, depth, torch.eye(3, 4)[None], lens), view)
    middles = projected(lifted(depth, lens), lens).unflatten(2, (6, 7))
    close(middles[0, :, 2, 4], torch.tensor([4.5, 2.5]))


def test_how_unlike_pictures_are_is_their_structure_and_their_difference():
    a, b = drawn(1, 2, 5, 6), drawn(1, 2, 5, 6, seed=1)
    found = dissimilarity(a, b)
    around = [F.pad(each, (1,) * 4, mode="reflect") for each in (a, b)]
    for row in range(5):
        for column in range(6):
            x, y = (each[0, :, row : row + 3, column : column + 3].flatten(1) for each in around)
            mx, my = x.mean(1), y.mean(1)
            both = ((x - mx[:, None]) * (y - my[:, None])).mean(1)
            like = (2 * mx * my + 1e-4) * (2 * both + 9e-4)
            like = like / ((mx**2 + my**2 + 1e-4) * (x.var(1, correction=0) + y.var(1, correction=0) + 9e-4))
            wanted = 0.85 * ((1 - like) / 2).clamp(0, 1) + 0.15 * (a - b)[0, :, row, column].abs()
            close(found[0, row, column], wanted.mean())
    assert dissimilarity(a, a).abs().max() < 1e-6
    inverse = drawn(1, 4, 5, seed=2)
    flat = torch.zeros(1, 1, 4, 5)
    each = inverse[0] / inverse.mean()
    wanted = (each[:, 1:] - each[:, :-1]).abs().mean() + (each[1:] - each[:-1]).abs().mean()
    close(roughness(inverse, flat)[0], wanted)
    edges = torch.arange(5.0).expand(1, 1, 4, 5)
    assert roughness(inverse, edges) < roughness(inverse, flat)


def test_the_true_depth_makes_the_second_view_and_is_where_the_gradient_leads():
    shift = (0.12, 0.0, 0.0)
    pictures, depth, pose, lens = rendered(3, shift, noise=0.0, pattern=0.4)
    made = synthesised(pictures[1], depth, pose, lens)
    off = (made - pictures[0]).abs().mean(1)
    assert off.median() < 0.01
    assert off.mean() < 0.02 < (pictures[1] - pictures[0]).abs().mean()
    for factor in (0.95, 1.05):
        scale = torch.tensor(factor, requires_grad=True)
        dissimilarity(synthesised(pictures[1], depth * scale, pose, lens), pictures[0]).mean().backward()
        assert (scale.grad > 0) == (factor > 1)


def test_a_room_from_its_usual_place_is_the_room():
    """And noise is another one in each view."""
    usual, again, aside = render_views(5, ((0, 0, 0), (0, 0, 0), (0.3, -0.2, 0.5)), side=24)
    assert np.array_equal(usual.picture, render(5, side=24).picture)
    assert np.array_equal(usual.depth, again.depth)
    assert not np.array_equal(usual.picture, again.picture)
    assert aside.depth.max() == np.float32(11.5)
    assert aside.depth[-1, 0] == pytest.approx(1.6 / ((23.5 / 24 - 0.45) / 1.1), rel=1e-5)


def test_the_head_equals_its_steps_written_out():
    block = ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.LargeKernel), feedforward=None)
    head = perturb(ef.spec(ef.heads.DepthByScales, block=block, hidden=(6, 4), factor=2, max_depth=10.0).build((3, 5)))
    fine, coarse = drawn(2, 3, 4, 6), drawn(2, 5, 2, 3, seed=1)
    notes = {}
    levels = {torch.nn.Identity(): as_tokens(each) for each in (fine, coarse)}
    answer = head(as_tokens(coarse), Context(levels=levels, notes=notes))

    def up(i, cells, guide):
        part = head.up[i]
        return convex(cells, part.shares(F.relu(part.read(guide))), 2)

    def said(i, cells):
        return 0.1 + (10 - 0.1) * head.inverse[i](cells).sigmoid()

    first = as_map(head.block[0](as_tokens(head.enter[0](coarse))))
    second = as_map(head.block[1](as_tokens(head.enter[1](torch.cat((fine, up(0, first, first)), 1)))))
    finest = up(1, said(1, second), second)
    close(answer, 1 / finest)
    close(notes["inverse"][0], finest[:, 0])
    close(notes["inverse"][1], F.interpolate(said(0, first), (8, 12), mode="bilinear")[:, 0])
    assert answer.min() >= 0.1
    assert answer.max() <= 10


def test_the_loss_equals_its_steps_written_out():
    model = model_of(tiny("lka-monodepth"))
    batch = {
        "inputs": drawn(2, 3, 32, 32), "labels": drawn(2, 3, 3, 32, 32, seed=1), "lens": torch.tensor(lens_of(32)).expand(2, 3, 3),
        "poses": torch.eye(3, 4).expand(2, 2, 3, 4) + drawn(2, 2, 3, 4, seed=2) * 0.05,
    }  # fmt: skip
    found = ViewSynthesis(smooth=0.01)(model, batch)
    notes = {}
    model(batch["inputs"], context=Context(notes=notes))
    total, views = 0, batch["labels"]
    for scale, inverse in enumerate(notes["inverse"]):
        each = [dissimilarity(views[:, i], views[:, 0]) for i in (1, 2)]
        for i in (1, 2):
            made = synthesised(views[:, i], 1 / inverse, batch["poses"][:, i - 1], batch["lens"].float())
            each.append(dissimilarity(made, views[:, 0]))
        least = torch.stack(each).min(0).values
        total = total + (least.mean((1, 2)) + 0.01 / 2**scale * roughness(inverse, views[:, 0])).sum() / 2
    close(found.total, total)
    assert found.count == 2
    with pytest.raises(ef.BadInput, match="expected pictures"):
        ViewSynthesis()(model, {**batch, "poses": batch["poses"][:, :1]})
    with pytest.raises(ef.DoesNotFit, match="DepthByScales"):
        ViewSynthesis()(model_of(tiny("glpdepth")), batch)


def test_what_does_not_fit_is_refused():
    block = ef.spec(ef.backbones.Block)
    with pytest.raises((ef.DoesNotFit, ValueError), match="a width on the way for each"):
        ef.spec(ef.heads.DepthByScales, block=block, hidden=(4,)).build((3, 5))
    with pytest.raises((ef.DoesNotFit, ValueError), match="below max_depth"):
        ef.spec(ef.heads.DepthByScales, block=block, hidden=(4, 4), nearest=200.0).build((3, 5))
    with pytest.raises((ef.DoesNotFit, ValueError), match="odd sides"):
        ef.spec(ef.mixers.LargeKernel, kernel=4).build(8)
