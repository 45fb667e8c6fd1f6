"""MaxViT with the weights of its authors, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Turned
from everyformer.interop.pyramids import Depths, Widths, pointwise, stages
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, batch_norm, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `MaxxVit` of MaxViT's blocks is, its shapes those of the authors' code."""
    blocks = [each.blocks[0] for each in model.stages]
    kinds = {type(block).__name__ for block in blocks}
    if kinds != {"MaxxVitBlock"}:
        return {"blocks": kinds}
    window, conv = blocks[0].attn_block, blocks[0].conv
    return {
        "blocks": kinds, "positions": type(window.attn.rel_pos).__name__, "padding": type(conv.conv2_kxk).__name__,
        "head": type(model.head).__name__, "classes": model.num_classes, "image": model.img_size,
        "channels": model.in_chans, "stem": model.stem.out_chs, "hidden_sizes": [each.conv.conv3_1x1.out_channels for each in blocks],
        "depths": [len(each.blocks) for each in model.stages], "head_width": window.attn.dim_head,
        "window": window.partition_size, "ratio": window.mlp.fc1.out_features / window.mlp.fc1.in_features,
    }  # fmt: skip


def bottleneck(ours: str, theirs: str) -> list[Pair]:
    """A convolution of a block, its norm in front left aside."""
    return [
        *layer(f"{ours}.up", f"{theirs}.conv1_1x1"),
        *batch_norm(f"{ours}.norms.0", f"{theirs}.norm1"),
        *layer(f"{ours}.conv", f"{theirs}.conv2_kxk"),
        *batch_norm(f"{ours}.norms.1", f"{theirs}.norm2"),
        *layer(f"{ours}.squeeze", f"{theirs}.se.fc1"),
        *layer(f"{ours}.excite", f"{theirs}.se.fc2"),
        *layer(f"{ours}.down", f"{theirs}.conv3_1x1"),
    ]


def axis(ours: str, theirs: str) -> list[Pair]:
    """Attention along one axis, and the feedforward after it."""
    return [
        *layer(f"{ours}.mixer.mixer.qkv", f"{theirs}.attn.qkv"),
        *layer(f"{ours}.mixer.mixer.output", f"{theirs}.attn.proj"),
        Pair(
            f"{ours}.mixer.mixer.positions.table.weight",
            (f"{theirs}.attn.rel_pos.relative_position_bias_table",),
            Turned(),
        ),
        *layer(f"{ours}.residual.0.norm", f"{theirs}.norm1"),
        *layer(f"{ours}.residual.1.norm", f"{theirs}.norm2"),
        *layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2"),
    ]


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    found = []
    for i in range(stages(design)):
        stage, theirs = f"backbone.stages.{i}", f"stages.{i}.blocks"
        found += bottleneck(f"{stage}.enter.inner", f"{theirs}.0.conv")
        found += batch_norm(f"{stage}.enter.norm", f"{theirs}.0.conv.pre_norm")
        found += pointwise(f"{stage}.enter.project", f"{theirs}.0.conv.shortcut.expand")
        for j, block in enumerate(design.get(f"{stage}.blocks")):
            ours, each, last = f"{stage}.blocks.{j}.blocks", f"{theirs}.{j}", len(block.get("blocks")) - 1
            if j:  # the convolution of the first block leads into the stage
                found += bottleneck(f"{ours}.0.mixer.inner", f"{each}.conv")
                found += batch_norm(f"{ours}.0.residual.0.norm", f"{each}.conv.pre_norm")
            found += axis(f"{ours}.{last - 1}", f"{each}.attn_block") + axis(f"{ours}.{last}", f"{each}.attn_grid")
    return [
        *layer("embedding.convs.0", "stem.conv1"),
        *batch_norm("embedding.between", "stem.norm1"),
        *layer("embedding.convs.1", "stem.conv2"),
        *found,
        *layer("head.norm", "head.norm"),
        *layer("head.hidden", "head.pre_logits.fc"),
        *layer("head.classify", "head.fc"),
    ]


register_timm(
    TimmFamily(
        name="MaxxVit",
        system="maxvit",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Key("channels", "embedding.channels", "channels"),
            Key("stem", "width", "stem"),
            Widths(),
            Depths(),
            Key("head_width", "backbone.stages.0.blocks.0.blocks.1.mixer.mixer.heads", "head_width"),
            Square("window", "backbone.stages.0.blocks.0.blocks.1.mixer.size", "window"),
            Key("ratio", "backbone.stages.0.blocks.0.blocks.1.feedforward.ratio", "ratio"),
        ),
        only={
            "blocks": {"MaxxVitBlock"},
            "positions": "RelPosBiasTf",
            "padding": "Conv2dSame",
            "head": "NormMlpClassifierHead",
        },
        table=table,
    )
)
