"""`segmenter` and `transunet` by their equations, published sizes, and a picture that no memory would hold at once."""

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import SegformerForSemanticSegmentation

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import to_folder
from support.agreement import perturb, same_as_function
from support.systems import tiny


def linear(p, name, x):
    return x @ p[f"{name}.weight"].mT + p[f"{name}.bias"]


def layer_norm(p, name, x, eps):
    mean = x.mean(-1, keepdim=True)
    deviation = ((x - mean).square().mean(-1, keepdim=True) + eps).sqrt()
    return (x - mean) / deviation * p[f"{name}.weight"] + p[f"{name}.bias"]


def block(p, name, x, heads, eps):
    """x + attention(norm(x)), then x + MLP(norm(x))."""
    query, key, value = linear(p, f"{name}.mixer.qkv", layer_norm(p, f"{name}.residual.0.norm", x, eps)).chunk(3, -1)
    size = x.shape[-1] // heads
    found = []
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        weights = (query[..., own] @ key[..., own].mT / math.sqrt(size)).softmax(-1)
        found.append(weights @ value[..., own])
    x = x + linear(p, f"{name}.mixer.output", torch.cat(found, -1))
    hidden = F.gelu(linear(p, f"{name}.feedforward.up", layer_norm(p, f"{name}.residual.1.norm", x, eps)))
    return x + linear(p, f"{name}.feedforward.down", hidden)


@torch.no_grad()
def test_segformer_goes_to_hugging_face_and_comes_back(tmp_path):
    model = perturb(tiny("segformer-segmentation").build(seed=0).eval(), std=0.1)
    to_folder(model, tmp_path)
    theirs, pictures = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval(), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(pictures), theirs(pictures).logits, atol=1e-5, rtol=1e-5)
    assert ef.load(tmp_path).system == "segformer-segmentation"
    with pytest.raises(ef.DoesNotFit, match=r"mlp_ratios takes whole numbers there; the design has \[1\.5, 1\.5\]"):
        to_folder(tiny("segformer-segmentation", ratio=1.5).build(), tmp_path)


def test_segmenter_equals_its_equations():
    """Section 3.2: the masks are the products of normalised patches and normalised class tokens, then a norm."""
    model = perturb(tiny("segmenter").build(seed=0), std=0.1)

    def literal(p, x):
        pieces = F.conv2d(x, p["embedding.project.weight"], p["embedding.project.bias"], stride=4)
        rows, columns = pieces.shape[2:]
        x = pieces.flatten(2).mT + p["embedding.positions.table"]
        x = torch.cat((p["embedding.first"].expand(len(x), -1, -1), x), 1)
        for i in range(2):
            x = block(p, f"backbone.blocks.{i}", x, 4, 1e-6)
        x = linear(p, "head.project", layer_norm(p, "backbone.norm", x, 1e-6)[:, 1:])
        x = torch.cat((x, p["head.queries"].expand(len(x), -1, -1)), 1)
        x = layer_norm(p, "head.body.norm", block(p, "head.body.blocks.0", x, 4, 1e-5), 1e-5)
        patches, classes = x[:, :-3] @ p["head.cells"], x[:, -3:] @ p["head.named"]
        patches = patches / patches.norm(dim=-1, keepdim=True)
        classes = classes / classes.norm(dim=-1, keepdim=True)
        return layer_norm(p, "head.norm", patches @ classes.mT, 1e-5).mT.unflatten(2, (rows, columns))

    same_as_function(model, literal, torch.randn(2, 3, 16, 16))


def test_transunet_equals_its_equations():
    """Section 3 and the official code's units: standardised kernels, group norms, a ViT, four steps up."""
    model = perturb(tiny("transunet").build(seed=0), std=0.1)

    def conv(p, name, x, stride=1, padding=0, groups=2, eps=1e-6):
        weight = p[f"{name}.0.weight"]
        flat = weight.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = F.conv2d(x, flat.view_as(weight), stride=stride, padding=padding)
        return F.group_norm(x, groups, p[f"{name}.1.weight"], p[f"{name}.1.bias"], eps)

    def unit(p, name, x, stride, change):
        short = x
        if change:
            short = conv(p, f"{name}.short", x, stride, groups=p[f"{name}.short.1.weight"].numel(), eps=1e-5)
        y = F.relu(conv(p, f"{name}.convs.0", x))
        y = F.relu(conv(p, f"{name}.convs.1", y, stride, 1))
        return F.relu(short + conv(p, f"{name}.convs.2", y))

    def fresh(p, name, x):
        """A convolution, batch norm at rest, ReLU."""
        x = F.conv2d(x, p[f"{name}.conv.weight"], padding=1)
        shape = (1, -1, 1, 1)
        mean, variance = (p[f"{name}.norm.running_{each}"].view(shape) for each in ("mean", "var"))
        x = (x - mean) / (variance + 1e-5).sqrt()
        return F.relu(x * p[f"{name}.norm.weight"].view(shape) + p[f"{name}.norm.bias"].view(shape))

    def literal(learnt, x):
        p = {**dict(model.named_buffers()), **learnt}
        stem = {"stem.0.weight": p["embedding.conv.weight"], "stem.1.weight": p["embedding.norm.weight"]}
        x = F.relu(conv({**stem, "stem.1.bias": p["embedding.norm.bias"]}, "stem", x, 2, 3))
        skips = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        x = unit(p, "backbone.stages.1.enter.blocks.0", x, 1, True)
        skips.append(unit(p, "backbone.stages.1.enter.blocks.1", x, 1, False))
        x = unit(p, "backbone.stages.2.enter.blocks.0", skips[-1], 2, True)
        body = "backbone.stages.3"
        x = F.conv2d(x, p[f"{body}.enter.project.weight"], p[f"{body}.enter.project.bias"])
        size = x.shape[2:]
        x = x.flatten(2).mT + p[f"{body}.places.table"]
        x = layer_norm(p, f"{body}.norm", block(p, f"{body}.blocks.0", x, 4, 1e-6), 1e-6)
        x = fresh(p, "head.first", x.mT.unflatten(2, size))
        for i in range(3):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = torch.cat((x, skips[1 - i]), 1) if i < 2 else x
            x = fresh(p, f"head.up.{i}.1", fresh(p, f"head.up.{i}.0", x))
        return F.conv2d(x, p["head.classify.weight"], p["head.classify.bias"], padding=1)

    class Learnt(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def state_dict(self, **_):
            return dict(model.named_parameters())

        def forward(self, x):
            return model(x)

    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.add_(torch.rand(buffer.shape))
    same_as_function(Learnt(), literal, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("system", "size", "published"),
    [
        ("segformer-segmentation", "b0", 3.8e6), ("segformer-segmentation", "b1", 13.7e6),
        ("segformer-segmentation", "b2", 27.5e6), ("segformer-segmentation", "b3", 47.3e6),
        ("segformer-segmentation", "b4", 64.1e6), ("segformer-segmentation", "b5", 84.7e6),
        ("segmenter", "large", 334e6), ("upernet", "swin-tiny", 60e6 - 0.93e6), ("transunet", "base", 105.3e6),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(system, size, published):
    """Of UPerNet without the second head that stands beside it in training (0.93 M)."""
    assert parameters(on_meta(ef.design(system, size))) == pytest.approx(published, rel=0.015)


@pytest.mark.parametrize("name", ["segformer-segmentation", "segmenter", "transunet", "unet", "upernet"])
def test_any_picture_gets_a_map(name):
    model = tiny(name).build(seed=0).eval()
    for height, width in ((32, 48), (70, 33)):
        logits = model(torch.randn(1, 3, height, width))
        assert logits.shape[1] == 3
        assert abs(logits.shape[2] / logits.shape[3] - height / width) < 0.3
