"""`cct`, `compact-vit` and `vit-lite` against the paper's equations and a run of the authors' code."""

import math

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop.weights import Pair, layer
from support.agreement import perturb, recorded, same_as_function


def norm(p, name, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x, heads):
    width = x.shape[-1]
    size = width // heads
    query, key, value = p[f"{name}.qkv.weight"].split(width)
    found = []
    for h in range(heads):
        rows = slice(h * size, (h + 1) * size)
        q, k, v = x @ query[rows].T, x @ key[rows].T, x @ value[rows].T
        found.append(torch.softmax(q @ k.mT / math.sqrt(size), -1) @ v)
    return torch.cat(found, -1) @ p[f"{name}.output.weight"].T + p[f"{name}.output.bias"]


def encoder(p, x, depth, heads):
    """The official order: the second norm is on the trunk."""
    for i in range(depth):
        block = f"backbone.blocks.{i}"
        x = x + attention(p, f"{block}.mixer", norm(p, f"{block}.residual.0.norm", x), heads)
        x = norm(p, f"{block}.residual.1.norm", x)
        hidden = x @ p[f"{block}.feedforward.up.weight"].T + p[f"{block}.feedforward.up.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + hidden @ p[f"{block}.feedforward.down.weight"].T + p[f"{block}.feedforward.down.bias"]
    return norm(p, "backbone.norm", x)


def pooled(p, x):
    """Equations 5 to 7."""
    scores = x @ p["head.pool.score.weight"].T + p["head.pool.score.bias"]
    return (torch.softmax(scores.mT, -1) @ x)[:, 0]


def classes(p, z):
    return z @ p["head.classify.weight"].T + p["head.classify.bias"]


def sine(count, width):
    return torch.tensor(
        [
            [(math.sin if d % 2 == 0 else math.cos)(n / 10000 ** ((d - d % 2) / width)) for d in range(width)]
            for n in range(count)
        ]
    )


def cct(p, x, *, depth, heads, convs, stride, positions):
    """Equation 8, positions, the encoder, SeqPool, classes."""
    for i in range(convs):
        kernel = p[f"embedding.convs.{i}.weight"]
        x = F.max_pool2d(F.relu(F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)), 3, 2, 1)
    x = x.flatten(2).mT
    if positions == "learned":
        x = x + p["embedding.positions.table"]
    elif positions == "sine":
        x = x + sine(*x.shape[1:])
    return classes(p, pooled(p, encoder(p, x, depth, heads)))


@pytest.mark.parametrize("positions", ["learned", "sine", "none"])
@pytest.mark.parametrize(("kernel", "convs", "stride"), [(3, 1, 1), (3, 2, 1), (7, 2, 2)])
def test_equals_the_equations(positions, kernel, convs, stride):
    sizes = {"depth": 2, "heads": 3}
    model = ef.create(
        "cct",
        classes=5,
        image=32,
        channels=2,
        width=24,
        kernel=kernel,
        convs=convs,
        hidden=6,
        positions=positions,
        **sizes,
    )

    def literal(p, x):
        return cct(p, x, convs=convs, stride=stride, positions=positions, **sizes)

    same_as_function(perturb(model, std=0.1), literal, torch.randn(2, 2, 32, 32))


@pytest.mark.parametrize("name", ["compact-vit", "vit-lite"])
def test_patches_equal_the_equations(name):
    model = ef.create(name, classes=5, image=16, channels=2, width=24, depth=2, heads=3)

    def literal(p, x):
        x = F.unfold(x, 4, stride=4).mT @ p["embedding.project.weight"].flatten(1).T + p["embedding.project.bias"]
        x = x + p["embedding.positions.table"]
        if name == "compact-vit":
            return classes(p, pooled(p, encoder(p, x, 2, 3)))
        x = torch.cat((p["embedding.first"].expand(len(x), -1, -1), x), 1)
        return classes(p, encoder(p, x, 2, 3)[:, 0])

    same_as_function(perturb(model, std=0.1), literal, torch.randn(2, 2, 16, 16))


def test_equals_a_run_of_the_official_code():
    """Two convolutions, two layers, learned positions; the pool's shift moves no softmax, so it has no gradient."""
    pairs = [Pair("embedding.positions.table", ("grid",))]
    for i in range(2):
        pairs += layer(f"embedding.convs.{i}", f"tokenizer.conv_layers.{i}.0", bias=False)
        ours, theirs = f"backbone.blocks.{i}", f"classifier.blocks.{i}"
        pairs += layer(f"{ours}.residual.0.norm", f"{theirs}.pre_norm")
        pairs += layer(f"{ours}.mixer.qkv", f"{theirs}.self_attn.qkv", bias=False)
        pairs += layer(f"{ours}.mixer.output", f"{theirs}.self_attn.proj")
        pairs += layer(f"{ours}.residual.1.norm", f"{theirs}.norm1")
        pairs += layer(f"{ours}.feedforward.up", f"{theirs}.linear1")
        pairs += layer(f"{ours}.feedforward.down", f"{theirs}.linear2")
    pairs += layer("backbone.norm", "classifier.norm") + layer("head.classify", "classifier.fc")
    pairs += layer("head.pool.score", "classifier.attention_pool")
    sizes = {"classes": 5, "image": 16, "channels": 2, "width": 16, "depth": 2, "heads": 2, "convs": 2, "hidden": 8}
    recorded("cct", ef.create("cct", **sizes), pairs, nothing=("head.pool.score.bias",))


@pytest.mark.parametrize(
    ("size", "published", "exact"),
    [("7/3x1", 3.76e6, 3_760_139), ("2/3x2", 0.28e6, 283_723), ("14/7x2", 22.36e6, 22_367_273)],
)
def test_sizes_are_the_published_ones(size, published, exact):
    count = parameters(on_meta(ef.design("cct", size)))
    assert count == exact
    assert abs(count - published) < 0.01e6


@pytest.mark.parametrize("size", ["2/3x2", "7/3x1", "7/7x2"])
def test_positions_fit_the_picture_that_was_built_for(size):
    model = on_meta(ef.design("cct", size))
    tokens = model.embedding(torch.zeros(1, 3, model.embedding.image, model.embedding.image, device="meta"))
    assert tokens.grid == model.embedding.positions.grid


@pytest.mark.parametrize("name", ["cct", "compact-vit", "vit-lite"])
@pytest.mark.parametrize("size", [(32, 32), (70, 64), (224, 160)])
def test_other_sizes_of_pictures(name, size):
    model = ef.create(name, image=64, width=32, depth=1, heads=2, seed=0).eval()
    answer = model(torch.randn(2, 3, *size))
    assert answer.shape == (2, 10)
    assert answer.isfinite().all()


def test_stochastic_depth_grows_from_zero_to_its_rate():
    rates = []
    for block in ef.design("cct", "4/3x2").get("backbone.blocks"):
        pair = {r.get("branches")[0].get("rate") if r.get("branches") else 0.0 for r in block.get("residual")}
        assert len(pair) == 1
        rates.append(pair.pop())
    assert rates == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])


def test_unknown_positions_are_refused():
    with pytest.raises(ef.UnknownName, match="unknown positions 'sines'; did you mean 'sine'"):
        ef.create("cct", positions="sines")
