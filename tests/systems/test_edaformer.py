"""`edaformer` against a run of the authors' code, and keys that are pooled further after training."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop.forms import Wrapped
from everyformer.interop.weights import Pair, batch_norm, layer
from support.agreement import close, perturb, recorded

SIZES = {
    "classes": 3, "image": 48, "channels": 1, "widths": (4, 4, 8), "depths": (1, 1, 1), "heads": (2, 4, 8), "ratio": 1.0,
    "pools": (4, 2, 1), "decoder_ratio": 1.0, "hidden": 6,
}  # fmt: skip


def block(ours, theirs):
    return [
        *layer(f"{ours}.residual.0.norm", f"{theirs}.norm1"),
        *layer(f"{ours}.residual.1.norm", f"{theirs}.norm2"),
        Pair(f"{ours}.mixer.reduce.project.weight", (f"{theirs}.attn.sr.weight",), Wrapped(0, 2)),
        Pair(f"{ours}.mixer.reduce.project.bias", (f"{theirs}.attn.sr.bias",)),
        *layer(f"{ours}.mixer.output", f"{theirs}.attn.proj"),
        *layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1"),
        *layer(f"{ours}.feedforward.conv", f"{theirs}.mlp.dwconv.dwconv"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2"),
    ]


def test_equals_a_run_of_the_official_code():
    pairs = []
    for i in range(3):
        merging = f"backbone.stages.{i}.enter" if i else "embedding"
        pairs += layer(f"{merging}.project", f"b.patch_embed{i + 1}.proj")
        pairs += layer(f"{merging}.norm", f"b.patch_embed{i + 1}.norm") + layer(
            f"backbone.stages.{i}.norm", f"b.norm{i + 1}"
        )
        pairs += block(f"backbone.stages.{i}.blocks.0", f"b.block{i + 1}.0")
        for j in range(i + 1):
            ours, theirs = f"head.bodies.{i}.blocks.{j}", f"h.attn{str(i + 2) * (j + 1)}"
            pairs += block(ours, theirs) + layer(f"{ours}.mixer.reduce.norm", f"{theirs}.attn.norm")
    pairs += layer("head.fuse.conv", "h.linear_fuse.conv", bias=False) + batch_norm(
        "head.fuse.norm", "h.linear_fuse.bn"
    )
    pairs += layer("head.classify", "h.linear_pred")
    recorded("edaformer", ef.create("edaformer", **SIZES), pairs)


@pytest.mark.parametrize(("size", "count", "cost"), [("tiny", 4.9e6, 5.6e9), ("base", 29.4e6, 32.0e9)])
def test_sizes_are_the_published_ones(size, count, cost):
    """Table 1, ADE20K at 512 pixels, a multiply-add counted once."""
    model = on_meta(ef.design("edaformer", size))
    assert parameters(model) == pytest.approx(count, rel=0.01)
    assert flops(model)[""] / 2 == pytest.approx(cost, rel=0.01)


def test_on_its_own_map_it_is_attention_of_the_tokens_themselves():
    made = ef.spec(ef.mixers.EmbeddingFree, heads=2, reduce=ef.spec(ef.backbones.MeanMerging, size=1)).build(8)
    for linear in (made.reduce.project, made.output):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    values = torch.randn(2, 12, 8)
    heads = values.unflatten(-1, (2, 4)).transpose(1, 2)
    expected = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
    close(made(ef.Tokens(values, grid=(3, 4))), expected)


def test_coarser_keys_need_no_other_weights_and_cost_less():
    """Keys twice as coarse in the first two stages and in the decoder (section 3.3)."""
    design = ef.design("edaformer", **SIZES)
    fewer = ef.design("edaformer", **{**SIZES, "pools": (8, 4, 1), "decoder_pools": (8, 4, 2)})
    model, changed = perturb(design.build()), fewer.build().eval()
    changed.load_state_dict(model.state_dict())
    pictures = torch.randn(1, 1, 48, 48)
    assert (model(pictures) - changed(pictures)).abs().max() > 1e-4
    assert flops(on_meta(fewer))[""] < flops(on_meta(design))[""]


def test_on_a_picture_of_one_colour_coarser_keys_change_nothing():
    """But near the border, where convolutions see zeros; a mixer alone sees none."""
    reduce = ef.spec(ef.backbones.MeanMerging, size=2)
    made = perturb(ef.spec(ef.mixers.EmbeddingFree, heads=2, reduce=reduce).build(8), std=0.3)
    tokens = ef.Tokens(torch.randn(1, 1, 8).expand(-1, 24, -1), grid=(4, 6))
    before = made(tokens)
    made.reduce.size = 4
    close(made(tokens), before)


def test_a_body_for_each_level_is_asked_for():
    with pytest.raises(ef.DoesNotFit, match="a body for each of 2 levels; given 1"):
        ef.spec(ef.heads.AttentiveDecoder, classes=3, bodies=(ef.spec(ef.backbones.Encoder),)).build((8, 8))
