"""Heat in places and queries at its peaks: each step against its equation written out; the limits that the method has."""

import math

import pytest
import torch
import torch.nn.functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.designs import design_of
from everyformer.grids import as_tokens
from everyformer.heads.heat import LineSnake, middles
from everyformer.objectives import Boxes, HeatBoxes
from everyformer.objectives.heat import bells, focal
from everyformer.tokens import take
from support.agreement import close, perturb
from support.systems import model_of, tiny


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_cold_stands_where_it_stands_and_heat_is_told_by_its_waves():
    places = perturb(ef.spec(ef.positions.HeatPlaces).build(8), std=0.3)
    plain = ef.spec(ef.positions.ScaledSinusoidal).build(8)
    tokens = as_tokens(drawn(2, 8, 3, 4))
    close(places.at(tokens, torch.zeros(2, 1, 3, 4)), plain.add(tokens).expand(2, -1, -1))
    heat = places.heat(tokens).sigmoid()
    found = places.add(tokens)
    for row in range(3):
        for column in range(4):
            hot = heat[1, 0, row, column]
            told = torch.stack([
                wave(2 * math.pi * hot / 10000 ** (2 * i / 8)) for i in range(4) for wave in (torch.sin, torch.cos)
            ])  # fmt: skip
            wanted = plain.add(tokens)[0, 4 * row + column] + hot * places.down(places.up(told).relu())
            close(found[1, 4 * row + column], wanted)
    nearly = places.at(tokens, heat + 1e-4)
    assert 0 < (nearly - found).abs().max() < 0.01


def test_a_perfect_map_is_one_at_each_middle_and_its_peaks_are_those():
    head = model_of(tiny("hmpe")).head
    labels = torch.tensor([[[0, 0.30, 0.40, 0.2, 0.1], [2, 0.81, 0.66, 0.1, 0.3], [-100, 0.5, 0.5, 0.1, 0.1]]])
    cells = middles((10, 8), labels)
    heat = bells(labels, cells, 0.25)
    middle = [4 * 8 + 2, 6 * 8 + 6]
    assert (heat[0] == 1).nonzero()[:, 0].tolist() == middle
    for at in (0, 17, 43, 79):
        x, y, w, h = cells[at]
        wanted = 0
        for cx, cy, sx, sy in ((2.5 * w, 4.5 * h, 0.05, 0.025), (6.5 * w, 6.5 * h, 0.025, 0.075)):
            wanted = max(wanted, math.exp(-(((x - cx) / sx) ** 2) / 2 - ((y - cy) / sy) ** 2 / 2))
        assert heat[0, at].item() == pytest.approx(wanted, abs=1e-6)
    chosen = head.chosen([heat.view(1, 1, 10, 8)], torch.zeros(1, 80, 16))
    assert set(chosen[0, :2].tolist()) == set(middle)
    peaks = heat.view(1, 1, 10, 8)
    peaks = (peaks == F.max_pool2d(peaks, 3, 1, 1)) & (peaks > 1e-3)
    assert peaks.flatten().nonzero()[:, 0].tolist() == middle


def test_the_focal_loss_by_hand():
    logits, wanted = drawn(1, 3), torch.tensor([[1.0, 0.6, 0.0]])
    p = logits[0].sigmoid()
    by_hand = -((1 - p[0]) ** 2) * p[0].log() - 0.4**4 * p[1] ** 2 * (1 - p[1]).log() - p[2] ** 2 * (1 - p[2]).log()
    close(focal(logits, wanted)[0], by_hand)


def test_a_snake_bends_from_tap_to_tap():
    part = perturb(LineSnake(3, kernel=5), std=0.3)
    cells = drawn(1, 3, 6, 7)
    found = part(cells)
    bends = part.bend(cells).tanh()[0]
    padded = F.pad(cells[0], (9, 9, 9, 9))

    def read(row, column):
        y, x = math.floor(row), math.floor(column)
        total = torch.zeros(3)
        for a in (y, y + 1):
            for b in (x, x + 1):
                total = total + (1 - abs(row - a)) * (1 - abs(column - b)) * padded[:, a + 9, b + 9]
        return total

    def snake(axis, row, column):
        one, two, three, four = bends[4 * axis : 4 * axis + 4, row, column].tolist()
        aside = (one + two, two, 0.0, three, three + four)
        weight = part.snakes[axis].weight[:, :, 0] if axis == 0 else part.snakes[axis].weight[..., 0]
        total = torch.zeros(3)
        for tap, off in enumerate(aside):
            at = (row + off, column + tap - 2) if axis == 0 else (row + tap - 2, column + off)
            total = total + weight[:, :, tap] @ read(*at)
        return total

    for row, column in ((0, 0), (2, 3), (5, 6), (3, 1)):
        straight = part.row(cells) + part.column(cells)
        wanted = straight[0, :, row, column] + snake(0, row, column) + snake(1, row, column)
        close(found[0, :, row, column], wanted)


def test_the_head_equals_its_steps_written_out():
    model = model_of(tiny("hmpe"))
    head, pictures = model.head, drawn(2, 3, 32, 32)
    levels, notes = {}, {}
    answer = model(pictures, context=Context(levels=levels, notes=notes))
    maps = []
    for project, line, each in zip(head.project, head.lines, levels.values(), strict=True):
        cells = project(each.values.mT.unflatten(2, each.grid))
        maps.append(cells + line(cells).relu())
    logits = [head.places.heat(as_tokens(each)) for each in maps]
    close(notes["heat"], torch.cat([each.flatten(1) for each in logits], 1))
    side = maps[0].shape[-1]
    both = torch.cat((logits[0], F.interpolate(logits[1], (side, side), mode="bilinear")), 1)
    whole = (head.fuse.weight.view(2) * both.movedim(1, -1)).sum(-1, keepdim=True).movedim(-1, 1) + head.fuse.bias
    whole = whole.sigmoid()
    strong = [maps[0] * (1 + whole), maps[1] * (1 + F.interpolate(whole, maps[1].shape[2:], mode="bilinear"))]
    places = torch.cat(
        [
            head.places.at(as_tokens(a), b.sigmoid()) + head.level.weight[i]
            for i, (a, b) in enumerate(zip(strong, logits))
        ],
        1,
    )
    values = torch.cat([as_tokens(each).values for each in strong], 1)
    cells = ef.tokens.Tokens(values, positions=places)
    cells = head.encoder(cells, Context())
    likely = head.classify(head.norm(cells.values)).softmax(-1)[..., :3].max(-1).values
    hot = []
    for each in logits:
        heat = each.sigmoid()
        around = F.pad(heat, (1,) * 4).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).amax(-1)
        hot.append((heat * (heat >= around)).flatten(1))
    order = (torch.cat(hot, 1) * likely).argsort(1, descending=True)[:, :5]
    queries = ef.tokens.Tokens(take(cells.values, order), positions=take(places, order))
    memory = {"cells": cells}
    layers = {}
    last = head.body(queries, Context(memory=memory, levels=layers))
    begin = torch.cat([middles(each.shape[2:], values) for each in maps])[order][..., :2]
    said = head.norm(last.values)
    box = head.box(said)
    box = torch.cat(((box[..., :2] + (begin / (1 - begin)).log()).sigmoid(), box[..., 2:].sigmoid()), -1)
    close(answer, torch.cat((head.classify(said), box), -1))
    assert notes["layers"].shape == (1, *answer.shape)


def test_the_loss_is_that_of_boxes_and_of_heat_whatever_the_order_of_the_queries():
    model = model_of(tiny("hmpe"))
    labels = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0)) / 2 + 0.2
    labels[..., 0] = torch.tensor([[0, 1, 2], [2, -100, -100]])
    batch = {"inputs": drawn(2, 3, 32, 32), "labels": labels}
    notes = {}
    model(batch["inputs"], context=Context(notes=notes))
    heat = focal(notes["heat"], bells(labels, notes["cells"], 0.2)).sum()
    close(HeatBoxes(heat=0.7, spread=0.2)(model, batch).total, Boxes()(model, batch).total + 0.7 * heat)
    said = model(batch["inputs"])
    close(Boxes().one(said[:, [3, 1, 4, 0, 2]], labels), Boxes().one(said, labels))
    with pytest.raises(ef.DoesNotFit, match="notes no heat"):
        HeatBoxes()(model_of(tiny("detr")), batch)


def test_the_decoder_has_three_layers_where_detr_has_six():
    found, base = ef.design("hmpe"), ef.design("detr")
    assert (len(found.get("head.body.blocks")), len(base.get("head.body.blocks"))) == (3, 6)
    assert design_of(model_of(tiny("hmpe"))).get("head.queries") == 5
