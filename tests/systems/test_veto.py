"""VETO against the authors' code: what experts say, gradients, and the loss of samples that are given to some of them."""

from itertools import product

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.boxes import regions
from everyformer.context import Context
from everyformer.interop.weights import Pair, fill, layer
from everyformer.objectives import ExpertGroups
from support.agreement import FIXTURES, close, same_gradients
from support.rooms import example
from support.systems import model_of, tiny

BODY = "fusion_transformer.transformer"
FIELDS = ("inputs", "depth", "boxes", "kinds")
SIZES = {
    "groups": (2, 3), "channels": 3, "depth_channels": 3, "side": 4, "kinds": 4, "words": 6, "place_width": 5, "width": 16,
    "depth_width": 10, "depth": 1, "heads": 2, "dropout": 0.0,
}  # fmt: skip


def table():
    """Which of our tensors is which of theirs."""
    ours, theirs = "backbone.blocks.*", f"{BODY}.layers.*"
    pairs = [
        Pair("embedding.words.weight", ("obj_embed.weight",)), Pair("embedding.first.weight", (f"{BODY}.cls_token",)),
        Pair("embedding.shared.weight", (f"{BODY}.pos_embedding",)),
        *layer(f"{ours}.mixer.qkv", f"{theirs}.0.fn.to_qkv", bias=False),
        *layer(f"{ours}.mixer.output", f"{theirs}.0.fn.to_out.0"), *layer("head.experts.*", "rel_out.*"),
        *layer(f"{ours}.feedforward.up", f"{theirs}.1.fn.net.0"), *layer(f"{ours}.feedforward.down", f"{theirs}.1.fn.net.3"),
    ]  # fmt: skip
    for mine, other in (
        ("depth", f"{BODY}.patch_embed.proj_d"), ("looks", f"{BODY}.patch_embed.proj_v"), ("box_norm", "pos_embed.0"),
        ("box", "pos_embed.1"), ("where", "location_projection.0"), ("kinds", "class_projection.0"),
    ):  # fmt: skip
        pairs += layer(f"embedding.{mine}", other)
    pairs += [Pair(f"embedding.box_norm.{each}", (f"pos_embed.0.{each}",)) for each in ("running_mean", "running_var")]
    return pairs + [pair for k in range(2) for pair in layer(f"{ours}.residual.{k}.norm", f"{theirs}.{k}.norm")]


def theirs():
    """A model of ours with their weights, and what they said."""
    kept = load_file(FIXTURES / "veto.safetensors")
    model = ef.create("veto", **SIZES).eval()
    weights = {key[7:]: value for key, value in kept.items() if key.startswith("weight.")}
    count = Pair("embedding.box_norm.num_batches_tracked", ("count",))
    fill(model, [*table(), count], {**weights, "count": torch.tensor(0)})
    return model, kept


def test_experts_and_gradients_are_those_of_the_authors():
    model, kept = theirs()
    notes = {}
    answer = model(**{name: kept[name] for name in FIELDS}, context=Context(notes=notes))
    for name in ("expert 0", "expert 1"):
        close(notes[name], kept[name], name)
    first, second = (kept[f"expert {k}"].softmax(-1) for k in range(2))
    none = (first[:, :1] + second[:, :1]) / 2
    close(answer.exp(), torch.cat((none, first[:, 1:-1], second[:, 1:-1]), 1), "answers")
    sum((notes[f"expert {k}"] * kept[f"cotangent {k}"]).sum() for k in range(2)).backward()
    found = {key[9:]: value for key, value in kept.items() if key.startswith("gradient.")}
    learnt = {name for name, _ in model.named_parameters()}

    class Learnt(torch.nn.Module):
        def state_dict(self, **_):
            return dict(model.named_parameters())

    same_gradients(Learnt(), [pair for pair in table() if any(pair.at(name) for name in learnt)], found)


def test_the_loss_is_that_of_the_authors(monkeypatch):
    """Of samples that are given to experts by hand."""
    model, kept = theirs()
    objective = ExpertGroups()
    monkeypatch.setattr(objective, "given", lambda labels, sizes: kept["given"])
    batch = {name: kept[name] for name in (*FIELDS, "labels")}
    loss = objective(model, batch)
    close(loss.total / loss.count, kept["loss"], "loss")


def test_subject_and_object_are_told_apart_and_pairs_are_not_mixed():
    model = model_of(tiny("veto"))
    batch = example(model, 4)
    before = model(**batch)
    turned = model(**{name: each.flip(1) for name, each in batch.items()})
    assert ((turned - before).abs().amax(1) > 1e-3).all()
    order = torch.tensor([2, 0, 3, 1])
    close(model(**{name: each[order] for name, each in batch.items()}), before[order])
    probability = before.exp()
    assert before.shape == (4, 6)
    assert (probability.sum(1) <= 2).all()


def test_every_class_is_drawn_about_as_often_by_its_expert():
    """Counts of 100, 20 | 5, 1: experts have medians of 60 and 3."""
    objective = ExpertGroups(counts=(100, 20, 5, 1)).train()
    close(objective.rates((2, 2)), torch.tensor([[0.6, 1.0, 1.0, 1.0], [0.03, 0.15, 0.6, 1.0]]))
    assert ExpertGroups(counts=(100_000, 20, 5, 1)).rates((2, 2))[1, 0] == pytest.approx(0.01)
    torch.manual_seed(0)
    labels = torch.arange(5).repeat_interleave(20_000)
    given = objective.given(labels, (2, 2)).view(5, -1, 2).float().mean(1)
    wanted = torch.tensor([[1, 1], [0.6, 0.03], [1, 0.15], [1, 0.6], [1, 1]])
    assert (given - wanted).abs().max() < 0.01
    assert objective.eval().given(torch.tensor([0, 1, 4]), (2, 2)).all()


def test_a_class_of_another_group_is_one_of_the_others():
    """Written out for the samples of a batch, all of which both experts are given."""
    model, kept = theirs()
    batch = {name: kept[name] for name in (*FIELDS, "labels")}
    loss = ExpertGroups().eval()(model, batch)
    names = {0: (0, 0), 1: (1, 4), 2: (2, 4), 3: (3, 1), 4: (3, 2), 5: (3, 3)}
    wanted = 0
    for k in range(2):
        odds = kept[f"expert {k}"].log_softmax(-1)
        wanted -= sum(odds[row, names[int(label)][k]] for row, label in enumerate(kept["labels"])) / 6
    close(loss.total / 6, wanted, "loss")


def test_regions_are_those_of_roi_align():
    """Written out for each sample of each cell; and the whole of a map, one sample a cell, is the map."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 2, 6, 9, generator=generator)
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 0.4], [0.5, 0.3, 0.6, 0.35]])
    found = regions(maps, boxes[:, None], 3)[:, 0]
    for n, (left, top, end, bottom) in enumerate(boxes.tolist()):
        for row, column in product(range(3), repeat=2):
            wanted = 0.0
            for i, j in product(range(2), repeat=2):
                y = (top + (row + (i + 0.5) / 2) * (bottom - top) / 3) * 6 - 0.5
                x = (left + (column + (j + 0.5) / 2) * (end - left) / 3) * 9 - 0.5
                y, x = min(max(y, 0), 5), min(max(x, 0), 8)
                for b, a in product(range(6), range(9)):
                    wanted = wanted + max(0, 1 - abs(y - b)) * max(0, 1 - abs(x - a)) * maps[n, :, b, a] / 4
            close(found[n, :, row, column], wanted)
    square = torch.randn(1, 2, 5, 5, generator=generator)
    close(regions(square, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), 5, samples=1)[0], square)


def test_what_does_not_fit_is_refused():
    model = model_of(tiny("veto"))
    batch = example(model, 2)
    with pytest.raises(ef.BadInput, match="expected maps of pairs of"):
        model(**{**batch, "inputs": batch["inputs"][:, :, :2]})
    with pytest.raises(ef.DoesNotFit, match="counts of 2 classes, and the experts have 5"):
        ExpertGroups(counts=(2, 1))(model, {**batch, "labels": torch.tensor([0, 1])})
    with pytest.raises(ef.DoesNotFit, match="needs a head with some"):
        ExpertGroups()(ef.create("vit", image=8, patch=4, width=8, depth=1, heads=2, classes=2),
                       {"inputs": torch.zeros(1, 3, 8, 8), "labels": torch.tensor([0])})  # fmt: skip
    for wrong, message in (({"depth_width": 32}, "a part of the width"), ({"patch": 3}, "not a multiple of patch")):
        with pytest.raises(ef.DoesNotFit, match=message):
            tiny("veto", **wrong).build()
    with pytest.raises(ef.DoesNotFit, match="at least one each"):
        tiny("veto", groups=()).build()
