"""Heads, hidden units and layers left out by score: what is left is what was scored, and the scores are the papers'."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

import everyformer as ef
from everyformer.compression.axformer import Search, mean_loss
from everyformer.compression.importance import influence, sensitivity
from everyformer.compression.optin import apart, divergence, importance, joined
from everyformer.compression.structures import (
    allocate,
    damped,
    gated,
    prunable,
    sliced,
    stream_norms,
    units_at,
    within,
    work,
)
from everyformer.compression.vtrans import Gates, Noisy, Size, trained, without_drowned
from everyformer.costs import flops, on_meta
from everyformer.objectives import Classification
from everyformer.objectives.base import Loss
from everyformer.units import Units
from support.agreement import close

FIXTURES = Path(__file__).parents[1] / "fixtures"
MIXER, FEEDFORWARD = "backbone.blocks.0.mixer", "backbone.blocks.0.feedforward"


def vit(seed: int = 0) -> Any:
    model = ef.create("vit", classes=3, image=16, patch=4, width=16, depth=2, heads=4, ratio=0.75, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.1 * torch.randn(each.shape, generator=generator)
    return model


def batches(count: int = 6, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(count, 3, 16, 16, generator=generator)
    return [{"inputs": pictures, "labels": torch.arange(count) % 3}]


def dead(model: Any, path: str, units: list[int]) -> None:
    """Let nothing read some units of a part."""
    part = model.get_submodule(path)
    with torch.no_grad():
        getattr(part, part.units().output).weight[:, part.units().inputs[units].flatten()] = 0


@pytest.mark.parametrize("name", ["vit", "llama"])
def test_a_gate_at_zero_is_a_unit_that_is_not_there(name: str) -> None:
    llama = {"vocabulary": 20, "hidden": 12, "key_heads": 2, "width": 16, "depth": 2, "heads": 4}
    model: Any = vit() if name == "vit" else ef.create("llama", seed=0, **llama).eval()
    kept = {MIXER: [1], "backbone.blocks.1.feedforward": [0, 5, 7]}
    gates = {path: torch.zeros(prunable(model, path)[path].count) for path in kept}
    for path, units in kept.items():
        gates[path][units] = 1
    batch = model.example()
    with torch.no_grad():
        with gated(model, gates):
            wanted = model(**batch)
        close(sliced(model, kept)(**batch), wanted)
        with gated(model, {path: torch.ones_like(gate) for path, gate in gates.items()}):
            assert torch.equal(model(**batch), before := model(**batch))
        assert torch.equal(model(**batch), before), "the gates are gone"


def test_work_is_what_the_flops_of_a_smaller_model_fall_by() -> None:
    model, batch = vit(), {"inputs": batches()[0]["inputs"]}
    found = prunable(model, "**")
    total, each = work(model, found, batch)
    kept = {MIXER: [0, 2], "backbone.blocks.1.feedforward": [3]}
    small = flops(on_meta(ef.Design(sliced(model, kept).spec)), batch)[""]
    gone = {path: found[path].count - len(units) for path, units in kept.items()}
    assert total - small == pytest.approx(sum(each[path] * count for path, count in gone.items()))
    rest = total - sum(each[path] * units.count for path, units in found.items())
    assert within(0.5, total, found, each) == pytest.approx(0.5 * total - rest)


def test_an_allocation_is_the_best_of_all() -> None:
    """Every number of the best heads with every number of the best hidden units that fits, tried out."""
    kinds = {"a": "heads", "b": "heads", "c": "hidden", "d": "hidden"}
    sizes, each = {"a": 2, "b": 3, "c": 4, "d": 3}, {"a": 3.0, "b": 2.5, "c": 1.0, "d": 0.5}
    found = {path: Units(kind, sizes[path], {}, {}) for path, kind in kinds.items()}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        scores = {path: torch.rand(size, generator=generator) for path, size in sizes.items()}
        kept = allocate(scores, each, found, 11.0)
        ranked = {
            kind: sorted(
                ((i == int(scores[p].argmax()), float(worth), p, i) for p in kinds if kinds[p] == kind for i, worth in enumerate(scores[p])),
                reverse=True,
            )
            for kind in ("heads", "hidden")
        }  # fmt: skip
        tried = []
        for many in itertools.product(range(2, 6), range(2, 8)):
            units = [unit for kind, count in zip(ranked, many) for unit in ranked[kind][:count]]
            if sum(each[unit[2]] for unit in units) <= 11:
                tried.append((sum(unit[1] for unit in units), units))
        best = max(tried, key=lambda one: one[0])[1]
        assert kept == {path: sorted(unit[3] for unit in best if unit[2] == path) for path in kinds}


def test_optin_scores_and_chooses_as_the_authors_code_does() -> None:
    kept = load_file(FIXTURES / "optin.safetensors")
    layers, heads = kept["scores"].shape
    features, answers = torch.zeros(layers, heads), torch.zeros(layers, heads)
    for i, j in itertools.product(range(layers), range(heads)):
        later = range(i + 1, layers) if i + 1 < layers else [i]
        features[i, j] = sum(apart(kept["features"][at], kept["changed"][i, j, at]) for at in later)
        answers[i, j] = divergence(kept["logits"], kept["answers"][i, j])
    paths = {str(i): "heads" for i in range(layers)}
    scores = joined({p: features[int(p)] for p in paths}, {p: answers[int(p)] for p in paths}, paths)
    close(torch.stack([*scores.values()]), kept["scores"])
    worth = {f"{kind} {i}": kept[f"{kind} scores"][i] for kind in ("head", "hidden") for i in range(layers)}
    found = {path: Units(path.split()[0], len(each), {}, {}) for path, each in worth.items()}
    each = {path: 3.5 if path.startswith("head") else 1.0 for path in worth}
    for share in (0.4, 0.6, 0.8):
        chosen = allocate(worth, each, found, share * (3.5 * 12 + 30))
        for name, kind in (("heads", "head"), ("hidden", "hidden")):
            theirs = [kept[f"{name} {share}"][i].nonzero().flatten().tolist() for i in range(layers)]
            assert [chosen[f"{kind} {i}"] for i in range(layers)] == theirs, share


def test_units_that_nothing_reads_go_first() -> None:
    """By every score; and OPTIN's model has the FLOPs that it was given, up to one unit."""
    model, data = vit(), batches()
    dead(model, MIXER, [0, 3])
    dead(model, FEEDFORWARD, [1, 2, 9])
    found, batch = prunable(model, "**"), {"inputs": data[0]["inputs"]}
    with torch.no_grad():
        worth = importance(model, found, batch)
    assert not worth[MIXER][[0, 3]].any()
    assert not worth[FEEDFORWARD][[1, 2, 9]].any()
    assert (worth["backbone.blocks.1.mixer"] > 0).all()
    told = sensitivity(model, data, Classification(), found)
    assert not told[MIXER][[0, 3]].any()
    assert (told[MIXER][[1, 2]] > 0).all()
    small = ef.compression.optin(model, data, keep=0.97)
    assert small.get_submodule(MIXER).heads == 2
    assert flops(on_meta(ef.Design(small.spec)), batch)[""] <= 0.97 * work(model, found, batch)[0]
    pruned = ef.compression.head_pruning(model, data, Classification(), keep=0.75)
    assert [pruned.get_submodule(f"backbone.blocks.{i}.mixer").heads for i in (0, 1)] == [2, 4]
    close(pruned(data[0]["inputs"]), model(data[0]["inputs"]))


def test_sensitivity_is_the_mean_size_of_the_gradient_at_a_gate() -> None:
    """By the difference of losses at gates a little off, sample by sample."""
    model, data = vit().double(), batches(3)
    data[0]["inputs"] = data[0]["inputs"].double()
    wanted = torch.zeros(4)
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in data[0].items()}
        for head in range(4):
            losses = []
            for step in (1e-4, -1e-4):
                gate = torch.ones(4, dtype=torch.double)
                gate[head] += step
                with gated(model, {MIXER: gate}), torch.no_grad():
                    losses.append(exactly(model, one).total)
            wanted[head] += abs((losses[0] - losses[1]) / 2e-4)
    found = sensitivity(model, data, exactly, prunable(model, MIXER))
    close(found[MIXER], (wanted / wanted.norm()).float())


def exactly(model: Any, batch: dict[str, Tensor]) -> Loss:
    """Cross entropy without rounding to float32."""
    return Loss(cross_entropy(model(batch["inputs"]), batch["labels"], reduction="sum"), torch.tensor(1))


def test_a_layer_that_turns_nothing_goes_first() -> None:
    model, data = ef.create("vit", classes=3, image=16, patch=4, width=32, depth=3, heads=4, seed=0).eval(), batches()
    with torch.no_grad():
        for name in ("mixer.output", "feedforward.down"):
            for each in model.backbone.blocks[1].get_submodule(name).parameters():
                each.zero_()
    worth = influence(model, [{"inputs": data[0]["inputs"]}], "backbone.blocks.*")
    assert worth["backbone.blocks.1"] == pytest.approx(0, abs=1e-6)
    before = model.backbone.blocks[0](model.embedding(data[0]["inputs"]))
    after = model.backbone.blocks[2](before)
    cosines = cosine_similarity(before.values, after.values, dim=-1)
    assert worth["backbone.blocks.2"] == pytest.approx(1 - float(cosines.mean()), abs=1e-5)
    small = ef.compression.layer_pruning(model, data)
    assert len(small.backbone.blocks) == 2
    close(small(data[0]["inputs"]), model(data[0]["inputs"]))


def test_axformer_leaves_out_what_it_may() -> None:
    """A planted head of noise goes; each accepted step is within its bound, and the loss of the result is the last one."""
    model, data, objective = vit(), batches(), Classification()
    path, noise = "backbone.blocks.1.mixer", torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    part = model.get_submodule(path)
    with torch.no_grad():
        part.output.weight[:, part.units().inputs[2]] = 30 * noise
    search = Search(copy.deepcopy(model), lambda made: mean_loss(made, data, objective), 0.0)
    first = search.least
    search.units("**.mixer", 4)
    assert any("blocks.1.mixer [2]" in what for what, *_ in search.accepted)
    assert all(loss <= bound for _, loss, bound in search.accepted)
    close(torch.tensor(mean_loss(search.model, data, objective)), torch.tensor(search.least))
    made = ef.compression.axformer(model, data, objective, slack=0.05, top=(1, 4))
    assert mean_loss(made, data, objective) < first
    assert sum(each.numel() for each in made.parameters()) < sum(each.numel() for each in search.model.parameters())
    with torch.no_grad():
        wanted = model(data[0]["inputs"])
    whole = ef.compression.axformer(model, data, lambda made, each: off(made, each, wanted))
    assert torch.equal(whole(data[0]["inputs"]), wanted), "nothing goes that the loss needs"


def off(made: Any, batch: Any, wanted: Tensor) -> Loss:
    """A loss that any change makes larger."""
    return Loss((made(batch["inputs"]) - wanted).square().sum(), torch.tensor(1))


def test_vtrans_drowns_what_is_not_needed() -> None:
    """The size is met; trained longer, the two planted heads are more noise than anything, and the others are not."""
    model, data = vit(), batches()
    dead(model, MIXER, [0, 3])
    found, batch = prunable(model, "**"), {"inputs": data[0]["inputs"]}
    total, each = work(model, found, batch)
    made: Any = ef.compression.vtrans(model, data, Classification(), keep=0.7, steps=4, lr=0.1)
    left = flops(on_meta(ef.Design(made.spec)), batch)[""]
    assert 0.7 * total - max(each.values()) <= left <= 0.7 * total
    rest = 1 - sum(each[path] * units.count for path, units in found.items()) / total
    size = Size({path: cost / total for path, cost in each.items()}, rest)
    options = {"keep": 0.7, "steps": 100, "lr": 0.1, "strength": 1e-2}
    with torch.no_grad():
        wanted = model(data[0]["inputs"])
    gates = trained(model, data, lambda made, each: off(made, each, wanted), found, size, **options)
    drowned = gates.units[MIXER].drowned()
    assert drowned[[0, 3]].min() > drowned[[1, 2]].max()
    gates = Noisy(5)
    with torch.no_grad():
        gates.mean.copy_(torch.tensor([1.0, -0.5, 0.0, 2.0, 0.1]))
        gates.log_variance.copy_(torch.tensor([0.0, -1.0, -2.0, 1.0, -5.0]))
    square, variance = gates.mean.double() ** 2, gates.log_variance.double().exp()
    close(gates.information(), 0.5 * (1 + square / variance).log().sum())
    assert ((gates.drowned() > 0) == (variance > square)).all()


def test_vtrans_leaves_out_what_the_gates_leave_nothing_of() -> None:
    """Without a layer, five dimensions and some units: the same as the whole model under the means of the gates of those kept,
    its norms taking their statistics from the dimensions that stay.
    """
    model, data, gone, lost = vit(), batches(), "backbone.blocks.1.mixer", [0, 3, 4, 9, 15]
    found, generator = prunable(model, "**.blocks.**"), torch.Generator().manual_seed(1)
    gates = Gates({path: Noisy(u.count) for path, u in found.items()}, {path: Noisy(1) for path in found}, Noisy(16))
    with torch.no_grad():
        for gate in gates.all:
            gate.mean.copy_(torch.rand(gate.mean.shape, generator=generator) + 0.5)
            gate.log_variance.copy_(-9 * torch.rand(gate.mean.shape, generator=generator) - 2)
        gates.layers[gone].log_variance.fill_(2.0)
        gates.width.log_variance[lost] = 2.0
    batch = {"inputs": data[0]["inputs"]}
    made: Any = without_drowned(model, gates, batch, 0.4 * flops(on_meta(ef.Design(model.spec)), batch)[""])
    assert (made.spec.get("width"), made.spec.get("backbone").get("blocks")[1].get("mixer")) == (11, None)
    assert flops(on_meta(ef.Design(made.spec)), batch)[""] <= 0.4 * flops(on_meta(ef.Design(model.spec)), batch)[""]
    units = {}
    for path in set(found) - {gone}:
        ranked, kept = gates.units[path].drowned().argsort(), units_at(made, path).count
        units[path] = torch.zeros(found[path].count).index_fill(0, ranked[:kept], 1.0) * gates.units[path].mean
    layers = {path: gate.mean[0] * (path != gone) for path, gate in gates.layers.items()}
    stays = torch.ones(16, dtype=torch.bool).index_fill(0, torch.tensor(lost), False)

    def normed(norm: Any, given: Any, _: Tensor) -> Tensor:
        some = torch.nn.functional.layer_norm(
            given[0][..., stays], (11,), norm.weight[stays], norm.bias[stays], norm.eps
        )
        return torch.zeros_like(given[0]).masked_scatter(stays.expand_as(given[0]), some) * gates.width.mean

    for norm in stream_norms(model, 16):
        norm.register_forward_hook(normed)
    assert len(stream_norms(model, 16)) == 5
    with gated(model, units), damped(model, layers):
        close(made(data[0]["inputs"]), model(data[0]["inputs"]))
    assert any((each == 0).any() for each in units.values())


def test_dimensions_that_nothing_uses_can_go() -> None:
    """Those that are zero everywhere, RMS norms being told of fewer; a width that is no axis of a tensor is refused."""
    gpt = ef.create("gpt", vocabulary=7, width=12, depth=1, heads=2, length=6, seed=0).eval()
    assert ef.compression.structures.narrowed(gpt, range(12))(torch.arange(6)[None]).equal(gpt(torch.arange(6)[None]))
    few: Any = ef.compression.structures.narrowed(gpt, [1, 4, 7])
    assert few.backbone.blocks[0].mixer.qkv.weight.equal(gpt.backbone.blocks[0].mixer.qkv.weight[:, [1, 4, 7]])
    assert few(torch.arange(6)[None]).shape == (1, 6, 7)


def test_vtrans_drowns_a_layer_that_adds_only_noise() -> None:
    model, data, layer = vit(), batches(), "backbone.blocks.1.feedforward"
    with torch.no_grad():
        for each in model.get_submodule(layer).down.parameters():
            each.zero_()
        wanted = model(data[0]["inputs"])
    found = prunable(model, "**.blocks.**")
    size = Size(dict.fromkeys(found, 0.0), 1.0)
    options = {"keep": 1.0, "steps": 100, "lr": 0.1, "strength": 1e-2}
    gates = trained(model, data, lambda made, each: off(made, each, wanted), found, size, **options)
    assert gates.layers[layer].drowned() > 0 > max(g.drowned() for path, g in gates.layers.items() if path != layer)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, d: ef.compression.optin(m, d, keep=0.01), "with one unit of every part .* is left; given keep=0.01"),
        (lambda m, d: ef.compression.optin(m, d, keep=1.2), "above 0 and at most 1; given 1.2"),
        (lambda m, d: ef.compression.optin(m, d, paths="head"), "unknown part with heads or hidden units 'head'"),
        (lambda m, d: ef.compression.optin(ef.create("mlp-mixer", classes=3, image=16, patch=4, width=16, depth=1), d, paths="**.mixer"), "unknown part with heads"),
        (lambda m, d: ef.compression.layer_pruning(m, d, drop=2), "of 2 blocks 0 to 1 can go; given drop=2"),
        (lambda m, d: ef.compression.layer_pruning(m, d, paths="head"), "unknown list of blocks 'head'"),
        (lambda m, d: ef.compression.axformer(m, d, Classification(), slack=-1), "slack is at least 0"),
        (lambda m, d: ef.compression.vtrans(m, d, Classification(), steps=0), "at least one step; given 0"),
        (lambda m, d: ef.compression.vtrans(m, [d[0]["inputs"]], Classification()), "the batches have no 'labels'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(call: Any, said: str) -> None:
    with pytest.raises(ef.EveryformerError, match=said):
        call(vit(), batches())
