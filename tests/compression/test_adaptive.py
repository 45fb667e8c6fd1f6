"""Adaptive computation modules: the authors' learners, grouped and dense execution, conversion, and the budget."""

import math

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.compression.adaptive import fewest, take
from everyformer.feedforward import MLP, Adaptive
from everyformer.objectives import Budgeted, Classification
from support.agreement import FIXTURES
from support.parity import perturb
from support.parts import close, tokens

SMALL = {"classes": 3, "image": 8, "patch": 2, "channels": 1, "width": 16, "depth": 2, "heads": 2}


def part(**options):
    torch.manual_seed(0)
    return perturb(Adaptive(32, 24, **{"learners": 3, "hidden": 5, **options}))


def test_prefixes_equal_the_authors():
    kept = load_file(FIXTURES / "acm.safetensors")
    made = Adaptive(8, 8, learners=3, hidden=5, bias=False)
    made.up.weight.data.copy_(kept["weight.w1"].T)
    made.up.bias.data.copy_(kept["weight.b1"])
    made.down.weight.data.copy_(kept["weight.w2"].T)
    values = kept["input"].clone().requires_grad_()
    output = made.prefixes(values)
    close(output, kept["output"])
    (output * kept["cotangent"]).sum().backward()
    close(values.grad, kept["input_gradient"])
    for found, name in ((made.up.weight, "w1"), (made.down.weight, "w2")):
        close(found.grad, kept[f"gradient.{name}"].T)
    close(made.up.bias.grad, kept["gradient.b1"])


@pytest.mark.parametrize("least", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_in_use_a_token_gets_the_prefix_that_its_gate_says(least, bias):
    made, values = part(least=least, bias=bias), tokens().values
    taken = []
    made.chosen.register_forward_hook(lambda m, given, out: taken.append(out))
    found = made(values)
    counts = taken[0].argmax(-1)
    assert counts.min() >= least
    assert counts.unique().numel() > 1
    wanted = made.prefixes(values).gather(-2, counts[..., None, None].expand(*counts.shape, 1, 24))[..., 0, :]
    close(found, wanted)
    torch.manual_seed(0)
    drawn = made.train()(values)
    counts = taken[1].detach().argmax(-1)
    close(drawn, made.prefixes(values).gather(-2, counts[..., None, None].expand(*counts.shape, 1, 24))[..., 0, :])


def test_only_the_learners_that_are_wanted_run(monkeypatch):
    made, values = part(), tokens().values
    made.gate[-1].weight.data.zero_()
    made.gate[-1].bias.data.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    seen = []
    activation = made.activation
    monkeypatch.setattr(made, "activation", lambda x: seen.append(x.numel()) or activation(x))
    made(values)
    assert sum(seen) == 18 * 2 * 5


def test_all_learners_of_an_mlp_are_the_mlp():
    old = perturb(MLP(32, hidden=24))
    made = Adaptive(32, 32, learners=4, hidden=6)
    take(made, old)
    close(made.prefixes(tokens().values)[..., -1, :], old(tokens()))
    assert made.prefixes(tokens().values)[..., 0, :].abs().max() == 0


def test_the_label_is_the_fewest_after_which_one_more_helps_little():
    class Fixed:
        least = 0

        def prefixes(self, inputs):
            errors = torch.tensor([[8.0, 4.0, 3.9, 1.0], [8.0, 7.5, 1.0, 0.1], [8.0, 4.0, 2.0, 1.0]])
            return errors[..., None]

    found = fewest(Fixed(), torch.zeros(3, 1), torch.zeros(3, 1), 1.2)
    assert found.tolist() == [1, 0, 3]


def test_conversion_learns_every_prefix_and_keeps_the_rest():
    model = perturb(ef.create("vit", seed=0, **SMALL))
    images = [torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    first = ef.compression.acm(model, images, steps=0, gate_steps=0)
    made = ef.compression.acm(model, images, steps=30, gate_steps=30, tokens=64)
    assert torch.equal(made.backbone.blocks[0].mixer.qkv.weight, model.backbone.blocks[0].mixer.qkv.weight)
    heard = {}
    model.backbone.blocks[1].feedforward.register_forward_hook(lambda m, a, out: heard.update(x=a[0].values, y=out))
    model(images[0])
    errors = {}
    for name, each in (("before", first), ("after", made)):
        said = each.backbone.blocks[1].feedforward.projection.prefixes(heard["x"])
        errors[name] = (said - heard["y"][..., None, :]).square().mean((0, 1, 3))
    assert errors["after"][1:].mean() < errors["before"][1:].mean()
    assert (errors["after"].diff() < 0).all()
    close(first.backbone.blocks[1].feedforward.projection.prefixes(heard["x"])[..., -1, :], heard["y"])


MIXERS = "**.blocks.*.mixer"


@pytest.mark.parametrize("options", [{}, {"key_heads": 1, "bias": False}])
def test_attention_with_all_learners_is_the_attention(options):
    """Where they cost as much as its rank takes; every projection has a gate of its own."""
    design = ef.design("vit", **SMALL)
    model = perturb(design.swap(MIXERS, ef.spec(ef.mixers.Attention, heads=2, **options)).build(seed=0))
    images = torch.randn(8, 1, 8, 8)
    made = ef.compression.acm(model, [images], cost=4.0, steps=0, gate_steps=0, paths=MIXERS)
    parts = [each for each in made.modules() if isinstance(each, Adaptive)]
    assert len(parts) == 2 * 4
    for each in parts:
        each.gate[-1].weight.data.zero_()
        each.gate[-1].bias.data.copy_(9.0 * (torch.arange(5) == 4))
    close(made(images), model(images))
    assert torch.equal(made.backbone.blocks[0].feedforward.up.weight, model.backbone.blocks[0].feedforward.up.weight)


def test_attention_learns_every_prefix_of_its_maps_at_their_cost():
    model = perturb(ef.create("vit", seed=0, **SMALL))
    images = [torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    first, made = (
        ef.compression.acm(model, images, steps=steps, gate_steps=steps, tokens=64, learners=2, paths=MIXERS)
        for steps in (0, 100)
    )
    heard = {}
    old, new = model.backbone.blocks[1].mixer, made.backbone.blocks[1].mixer
    assert sum(each.learners * each.cost for each in new.projection) == old.qkv.weight.numel()
    old.qkv.register_forward_hook(lambda m, a, out: heard.update(x=a[0], y=out.chunk(3, -1)))
    model(images[0])
    for i, wanted in enumerate(heard["y"]):
        errors = [
            (each.backbone.blocks[1].mixer.projection[i].prefixes(heard["x"]) - wanted[..., None, :])
            .square()
            .mean((0, 1, 3))
            for each in (first, made)
        ]
        assert errors[1][1:].mean() < 0.9 * errors[0][1:].mean()
        assert (errors[1].diff() < 0).all()


def test_a_budget_is_of_all_parts_together():
    model = ef.compression.acm(ef.create("vit", seed=0, **SMALL), [torch.randn(4, 1, 8, 8)], steps=1, gate_steps=1)
    batch = {"inputs": torch.randn(4, 1, 8, 8), "labels": torch.tensor([0, 1, 2, 0])}
    parts = [block.feedforward.projection for block in model.backbone.blocks]
    for each, k in zip(parts, (1, 4), strict=True):
        each.gate[-1].weight.data.zero_()
        each.gate[-1].bias.data.copy_(9.0 * (torch.arange(5) == k))
    plain = Classification()(model, batch)
    done = (1 + 4) / 8
    for budget, weight in ((done, 5.0), (0.25, 2.0)):
        only = Budgeted(budget=budget, weight=weight, entropy=0.0, diversity=0.0)(model, batch)
        close(only.total, plain.total + 4 * weight * abs(done - budget))
    even = Budgeted(budget=done, entropy=1.0, diversity=0.0)(model, batch)
    close(even.total, plain.total)
    assert all(not each.chosen._forward_hooks for each in parts)


def test_entropy_and_diversity_are_their_sums_written_out():
    from everyformer.objectives.budget import _diversity, _entropy

    chosen = [torch.nn.functional.one_hot(torch.randint(0, 3, (4, 6)), 3).float() for _ in range(2)]
    entropy = 0.0
    for each in chosen:
        for sample in each:
            shares = sample.sum(0) / 6
            entropy += sum(float(p) * math.log(p) for p in shares if p > 0) / math.log(3) / 8
    assert _entropy(chosen).item() == pytest.approx(entropy, abs=1e-6)
    taken = [sum(float(each[s].argmax(-1).float().mean()) for each in chosen) / 2 for s in range(4)]
    apart = sum(abs(a - b) for a in taken for b in taken) / 16
    assert _diversity(chosen).item() == pytest.approx(-2 * apart, abs=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="do not fall into 5 learners"):
        ef.compression.acm(ef.create("vit", seed=0, **SMALL), [torch.randn(2, 1, 8, 8)], learners=5)
    with pytest.raises(ef.DoesNotFit, match="40 learners are too many"):
        ef.compression.acm(ef.create("vit", seed=0, **SMALL), [torch.randn(2, 1, 8, 8)], learners=40, paths=MIXERS)
    noisy = ef.design("vit", **SMALL).set(f"{MIXERS}.slots", ef.spec(ef.scores.Persistent)).build()
    with pytest.raises(ef.DoesNotFit, match="attention of learners has no slots"):
        ef.compression.acm(noisy, [torch.randn(2, 1, 8, 8)], paths=MIXERS)
    with pytest.raises(ef.UnknownName):
        ef.compression.acm(ef.create("llama", "nano", vocabulary=9), [torch.ones(1, 4, dtype=torch.long)])
    with pytest.raises(ef.DoesNotFit, match="whose work a budget"):
        Budgeted()(
            ef.create("vit", seed=0, **SMALL), {"inputs": torch.randn(2, 1, 8, 8), "labels": torch.zeros(2).long()}
        )
    with pytest.raises(ValueError, match="0 to 1; given 2"):
        Budgeted(budget=2.0)
    with pytest.raises(ValueError, match="at least 1 learner"):
        Adaptive(8, 8, learners=2, least=3)
