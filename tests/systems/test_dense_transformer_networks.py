"""Dense Transformer Networks by their equations: the spline, what is taken along it, and the way back."""

import math

import pytest
import torch
import torch.nn.functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.warps import sent_back, spline, taken
from support.agreement import close, perturb
from support.heads import maps
from support.systems import tiny

GRID, SIZE = (2, 3), (5, 7)


def regular(rows, columns):
    """-1 to 1, row by row."""
    return [(2 * y / (rows - 1) - 1, 2 * x / (columns - 1) - 1) for y in range(rows) for x in range(columns)]


def bent(one, other):
    square = (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
    return square * math.log(square) if square else 0.0


def points_by_hand(control):
    """T = Delta^-1 [control; 0], then T (1, y, x, phi(r_1), ...) of each cell (equations of section 2)."""
    fixed = regular(*GRID)
    count = len(fixed)
    delta = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    for i, p in enumerate(fixed):
        delta[i] = torch.tensor([1, *p, *(bent(p, q) for q in fixed)])
        delta[count:, 3 + i] = torch.tensor([1, *p])
    solved = torch.linalg.solve(delta, torch.cat((control, control.new_zeros(3, 2))))
    led = [torch.tensor([1, *p, *(bent(p, q) for q in fixed)], dtype=torch.float64) @ solved for p in regular(*SIZE)]
    return torch.stack([(torch.stack([each[i] for each in led]) + 1) / 2 * (SIZE[i] - 1) for i in (0, 1)], -1)


def some(seed=0, batch=2):
    """Control points a little away from the grid, inside the map."""
    generator = torch.Generator().manual_seed(seed)
    straight = 0.7 * torch.tensor(regular(*GRID), dtype=torch.float64)
    return straight + 0.15 * torch.randn(batch, len(straight), 2, generator=generator, dtype=torch.float64)


def test_the_spline_equals_its_equations():
    control = some()
    found = spline(control, GRID, SIZE)
    for one, each in zip(control, found, strict=True):
        by_hand = points_by_hand(one)
        close(each, torch.stack([by_hand[:, i].clamp(0, SIZE[i] - 1) for i in (0, 1)], -1))


def test_the_spline_meets_its_points_and_is_straight_where_they_are():
    control = some()
    led = spline(control, GRID, GRID) / torch.tensor([GRID[0] - 1, GRID[1] - 1]) * 2 - 1
    close(led, control.clamp(-1, 1))
    turned = torch.tensor(regular(*GRID), dtype=torch.float64) @ torch.tensor([[0.6, 0.2], [-0.3, 0.5]]).double() + 0.05
    wanted = torch.tensor(regular(*SIZE), dtype=torch.float64) @ torch.tensor([[0.6, 0.2], [-0.3, 0.5]]).double() + 0.05
    led = spline(turned[None], GRID, SIZE)[0] / torch.tensor([SIZE[0] - 1, SIZE[1] - 1]) * 2 - 1
    close(led, wanted)


def test_straight_points_change_nothing_there_and_back():
    cells = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    points = spline(torch.tensor(regular(*GRID), dtype=torch.float64).expand(2, -1, -1), GRID, SIZE)
    close(taken(cells, points), cells)
    close(sent_back(cells, points), cells)


def test_cells_are_taken_and_sent_back_as_the_equations_say():
    """Bilinear shares of the four cells around a point; on the way back their weighted mean, by hand."""
    cells, points = torch.randn(1, 2, *SIZE, dtype=torch.float64), spline(some(batch=1), GRID, SIZE)
    moved, sums = torch.zeros_like(cells), torch.zeros(3, *SIZE, dtype=torch.float64)
    for n, (row, column) in enumerate(points[0].tolist()):
        at = divmod(n, SIZE[1])
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                share = max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(column - x))
                moved[0, :, *at] += share * cells[0, :, y, x]
                sums[:2, y, x] += share * cells[0, :, *at]
                sums[2, y, x] += share
    close(taken(cells, points), moved)
    assert 0 < (sums[2] < 1e-5).sum() < sums[2].numel()
    close(sent_back(cells, points)[0], torch.where(sums[2] < 1e-5, cells[0], sums[:2] / sums[2]))


def test_gradients_reach_cells_and_points():
    cells = torch.randn(1, 2, *SIZE, dtype=torch.float64, requires_grad=True)
    control = some(batch=1).requires_grad_()

    def both(cells, control):
        points = spline(control, GRID, SIZE)
        return taken(cells, points), sent_back(cells, points)

    assert torch.autograd.gradcheck(both, (cells, control))


def test_a_level_is_bent_between_its_convolutions_and_back_between_those_of_the_way_up():
    pair = perturb(ef.spec(ef.backbones.WarpedPair, grid=(4, 6), points=(2, 2), stride=2).build(5, 6), std=0.2)
    given = maps(5)[0]
    after = pair(ef.Tokens(given.flatten(2).mT, grid=(8, 12)))
    first, second = pair.convs
    inner = first(F.max_pool2d(given, 2))
    control = pair.lead(pair.read(inner.flatten(1)).tanh()).tanh().unflatten(1, (4, 2))
    points = spline(control, (2, 2), (4, 6))
    close(after.values, second(taken(inner, points)).flatten(2).mT)
    close(after.positions, points)

    finer, coarse = maps(6, 9)
    head = perturb(ef.spec(ef.heads.UnwarpedUShaped, classes=3, hidden=(7,)).build((6, 9)), std=0.2)
    places = spline(some().float(), GRID, (8, 12))
    levels = [
        ef.Tokens(finer.flatten(2).mT, positions=places, grid=(8, 12)),
        ef.Tokens(coarse.flatten(2).mT, grid=(4, 6)),
    ]
    answer = head(levels[1], Context(levels={torch.nn.Identity(): each for each in levels}))
    up = F.interpolate(coarse, (8, 12), mode="bilinear", align_corners=True)
    one, other = head.up[0]
    close(answer, head.classify(other(sent_back(one(torch.cat((up, finer), 1)), places))))


def test_a_bend_that_cannot_be_undone_is_refused():
    with pytest.raises(ef.EveryformerError, match="one of 0 to 1, .*given warped=2"):
        tiny("dense-transformer-networks", warped=2)
    with pytest.raises(ef.DoesNotFit, match="2 points a side"):
        ef.spec(ef.backbones.WarpedPair, grid=(4, 4), points=(1, 3)).build(4, 4)


def test_it_is_a_u_net_but_for_the_network_that_bends():
    ours, plain = (
        parameters(on_meta(ef.design(name, image=256, classes=21))) for name in ("dense-transformer-networks", "unet")
    )
    assert ours - plain == 32 * 32 * 512 * 20 + 20 + 20 * 32 + 32
