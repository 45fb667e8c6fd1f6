"""`lit` against a run of the authors' code, and merging that looks where it is told to."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop.forms import Joined
from everyformer.interop.weights import Pair, batch_norm, layer
from support.agreement import close, perturb, recorded


def merging(width=3, to=5, std=0.3):
    return perturb(ef.spec(ef.backbones.DeformableMerging, norm=None, activation="linear").build(width, to), std=std)


def tokens(cells):
    return ef.grids.as_tokens(cells)


def test_equals_a_run_of_the_official_code():
    pairs = layer("embedding.project", "patch_embed.proj") + layer("embedding.norm", "patch_embed.norm")
    for stage in (0, 1):
        ours, theirs = f"backbone.stages.{stage}.blocks.0", f"layers.{stage}.blocks.0"
        pairs += layer(f"{ours}.residual.{stage}.norm", f"{theirs}.norm2")
        pairs += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1") + layer(
            f"{ours}.feedforward.down", f"{theirs}.mlp.fc2"
        )
    pairs += layer(f"{ours}.residual.0.norm", f"{theirs}.norm1")
    pairs += layer(f"{ours}.mixer.qkv", f"{theirs}.attn.qkv") + layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
    table = (f"{theirs}.attn.relative_position_bias_table",)
    pairs.append(Pair(f"{ours}.mixer.positions.table.weight", table, Joined(transposed=True)))
    enter, down = "backbone.stages.1.enter", "layers.0.downsample"
    pairs += layer(f"{enter}.project", f"{down}.dconv") + layer(f"{enter}.offset", f"{down}.dconv.conv_offset")
    pairs += batch_norm(f"{enter}.norm", f"{down}.norm_layer")
    pairs += layer("backbone.norm", "norm") + layer("head.classify", "head")
    model = ef.create(
        "lit", classes=3, image=16, patch=2, channels=1, widths=(8, 16), depths=(1, 1), heads=(2, 4), ratios=(2.0, 2.0),
        attending=1, drop_path=0.0,
    )  # fmt: skip
    recorded("lit", model, pairs)


@pytest.mark.parametrize(
    ("size", "count", "cost"),
    [("tiny", 19.9e6, 3.6e9), ("small", 28.0e6, 4.1e9), ("medium", 49.4e6, 8.6e9), ("base", 87.3e6, 15.0e9)],
)
def test_sizes_are_the_published_ones(size, count, cost):
    """Table 2's FLOPs, which count a multiply-add once; its parameters are these less a million, rounded down."""
    model = on_meta(ef.design("lit", size))
    assert parameters(model) == pytest.approx(count, rel=0.01)
    assert flops(model)[""] / 2 == pytest.approx(cost, rel=0.01)


def test_it_begins_as_the_plain_convolution():
    made = ef.spec(ef.backbones.DeformableMerging, norm=None, activation="linear").build(3, 5)
    cells = torch.randn(2, 3, 6, 8)
    close(made(tokens(cells)).values, F.conv2d(cells, made.project.weight, made.project.bias, 2).flatten(2).mT)
    made(tokens(cells)).values.square().sum().backward()
    assert made.offset.weight.grad.abs().max() > 1e-3


def test_every_tap_reads_off_its_place_bilinearly():
    """Dai et al., equations 2 to 4, a loop over cells and taps."""
    made = merging()
    cells = torch.randn(1, 3, 4, 6)
    offset = F.conv2d(cells, made.offset.weight, made.offset.bias, 2)[0].unflatten(0, (2, 2, 2)) * 1.0
    assert offset.abs().max() > 1  # beyond the border, too
    expected = torch.zeros(5, 2, 3)
    for i in range(2):
        for j in range(3):
            for a in range(2):
                for b in range(2):
                    y, x = (2 * i + a + offset[a, b, 0, i, j], 2 * j + b + offset[a, b, 1, i, j])
                    read = torch.zeros(3)
                    for v in range(4):
                        for u in range(6):
                            read += (
                                (1 - (y - v).abs()).clamp(min=0) * (1 - (x - u).abs()).clamp(min=0) * cells[0, :, v, u]
                            )
                    expected[:, i, j] += made.project.weight[:, :, a, b] @ read
    close(made(tokens(cells)).values[0].mT.unflatten(1, (2, 3)), expected + made.project.bias[:, None, None])


def test_the_early_stages_mix_nothing():
    model = perturb(
        ef.create(
            "lit", classes=3, image=32, widths=(8, 16), depths=(2, 1), heads=(2, 4), ratios=(2.0, 2.0), attending=1
        )
    )
    pictures = torch.randn(1, 3, 32, 32, requires_grad=True)
    stage = next(iter(model.stages(pictures).values()))
    stage.values[0, 0].sum().backward()
    seen = pictures.grad[0].abs().sum(0) > 0
    assert seen[:4, :4].all()
    assert seen.sum() == 16


def test_merging_fewer_than_two_is_refused():
    with pytest.raises(ef.DoesNotFit, match="at least 2 rows and columns together; given a size of 1"):
        ef.spec(ef.backbones.DeformableMerging, size=1).build(4, 8)
