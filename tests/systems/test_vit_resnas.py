"""`vit-resnas` against a run of the authors' code, and the search that finds such networks."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop.forms import Following, Leading
from everyformer.interop.weights import Pair, batch_norm, layer
from support.agreement import close, perturb, recorded

SIZES = {
    "classes": 3, "image": 56, "channels": 1, "middle": 4, "widths": (6, 10), "heads": ((2,), (3,)), "head_widths": (4, 4),
    "hidden": ((8,), (12,)), "drop_path": 0.0,
}  # fmt: skip


def test_equals_a_run_of_the_official_code():
    pairs = [
        Pair("embedding.first", ("tokens", "pos_embed"), Leading()),
        Pair("embedding.positions.table", ("pos_embed",), Following(1, wrapped=True)),
        Pair("backbone.stages.1.places.table", ("blocks.1.pos_embed",), Following(0, wrapped=True)),
        *layer("embedding.project", "patch_embed.conv_proj"),
        *layer("backbone.stages.1.enter.norm", "blocks.1.norm"),
        *layer("backbone.stages.1.enter.project", "blocks.1.patch_reduce"),
        *layer("backbone.stages.1.enter.lead", "blocks.1.token_transform"),
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "cls_head"),
    ]
    for i, ours in enumerate(("enter", "convs.0", "convs.1")):
        pairs += layer(f"embedding.{ours}.conv", f"patch_embed.conv{i + 1}.conv", bias=False)
        pairs += batch_norm(f"embedding.{ours}.norm", f"patch_embed.conv{i + 1}.bn")
    for stage in (0, 1):
        ours, theirs = f"backbone.stages.{stage}.blocks.0", f"blocks.{2 * stage}"
        pairs += layer(f"{ours}.residual.0.norm", f"{theirs}.norm1") + layer(
            f"{ours}.residual.1.norm", f"{theirs}.norm2"
        )
        pairs += layer(f"{ours}.mixer.qkv", f"{theirs}.attn.qkv") + layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
        pairs += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        pairs += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
    recorded("vit_resnas", ef.create("vit-resnas", **SIZES), pairs)


@pytest.mark.parametrize(
    ("size", "count", "cost"), [("tiny", 40.8e6, 1.8e9), ("small", 63.7e6, 2.8e9), ("medium", 96.4e6, 4.5e9)]
)
def test_sizes_are_the_published_ones(size, count, cost):
    """Table 2: 41 M, 65 M and 97 M with the second classifier, of patches, that only training has; one decimal of GMACs."""
    model = on_meta(ef.design("vit-resnas", size))
    assert parameters(model) == pytest.approx(count, rel=0.01)
    assert flops(model)[""] / 2 == pytest.approx(cost, abs=0.05e9)


def test_without_weights_merging_is_pooling_with_channels_of_zeros():
    made = ef.spec(ef.backbones.ResidualMerging).build(4, 6)
    for linear in (made.project, made.lead):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    cells = torch.randn(2, 4, 6, 8)
    tokens = ef.grids.as_tokens(cells)
    leading = torch.randn(2, 1, 4)
    values = torch.cat((leading, tokens.values), 1)
    after = made(tokens.replace(values=values, prefix=1))
    close(after.values[:, :1], F.pad(leading, (0, 2)))
    close(after.values[:, 1:], F.pad(F.avg_pool2d(cells, 2).flatten(2).mT, (0, 2)))
    with pytest.raises(ef.DoesNotFit, match="channels of zeros are put to 6, which cannot become 4"):
        ef.spec(ef.backbones.ResidualMerging).build(6, 4)


def test_a_block_that_is_left_out_leaves_its_place():
    whole = perturb(ef.create("vit-resnas", **{**SIZES, "heads": ((2, 2), (3,)), "hidden": ((8, 8), (12,))}))
    fewer = ef.create("vit-resnas", **{**SIZES, "heads": ((0, 2), (3,)), "hidden": ((0, 8), (12,))}).eval()
    kept = {name: each for name, each in whole.state_dict().items() if "stages.0.blocks.0" not in name}
    fewer.load_state_dict(kept)
    plain = ef.create("vit-resnas", **SIZES).eval()
    plain.load_state_dict({name.replace("stages.0.blocks.1", "stages.0.blocks.0"): each for name, each in kept.items()})
    pictures = torch.randn(1, 1, 56, 56)
    close(fewer(pictures), plain(pictures))
