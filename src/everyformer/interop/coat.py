"""CoaT and CoaT-Lite, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import CoScale
from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Wrapped
from everyformer.interop.pyramids import Depths, Stages, Widths, stages
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `CoaT` is."""
    blocks = [getattr(model, f"serial_blocks{i}") for i in range(1, 5)]
    mlps, attention = [each[0].mlp for each in blocks], blocks[0][0].factoratt_crpe
    return {
        "global_pool": model.global_pool, "qkv_bias": attention.qkv.bias is not None, "classes": model.num_classes,
        "image": model.patch_embed1.img_size, "patch": model.patch_embed1.patch_size, "channels": model.in_chans,
        "hidden_sizes": list(model.embed_dims), "depths": [len(each) for each in blocks],
        "layers": model.parallel_depth, "heads": attention.num_heads, "windows": tuple(model.crpe1.window.items()),
        "ratios": [each.fc1.out_features / each.fc1.in_features for each in mlps], "eps": model.norm4.eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's; a layer of CoaT has three scales, which are its stages from the second on."""
    found = []
    for i in range(stages(design)):
        ours, theirs = f"backbone.stages.{i}", f"serial_blocks{i + 1}.*"
        found.append(Pair(f"{ours}.first", (f"cls_token{i + 1}",), Wrapped(1)))
        place = f"{ours}.enter" if i else "embedding"
        found += layer(f"{place}.project", f"patch_embed{i + 1}.proj")
        found += layer(f"{place}.norm", f"patch_embed{i + 1}.norm")
        found += layer(f"{ours}.blocks.0.blocks.0.mixer.conv", f"cpe{i + 1}.proj")
        found += layer(f"{ours}.blocks.0.blocks.1.mixer.relative.convs.*", f"crpe{i + 1}.conv_list.*")
        block = f"{ours}.blocks.*.blocks.1"
        found += attention(f"{block}.mixer", f"{theirs}.factoratt_crpe")
        for k in (0, 1):
            found += layer(f"{block}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
        found += mlp(block, f"{theirs}.mlp")
    across = design.get("backbone").part is CoScale
    for s in range(stages(design) - 1) if across else ():
        ours, theirs = "backbone.layers.*", "parallel_blocks.*"
        found += attention(f"{ours}.mixer.{s}", f"{theirs}.factoratt_crpe{s + 2}")
        found += layer(f"{ours}.norm.{s}", f"{theirs}.norm1{s + 2}")
        found += layer(f"{ours}.residual.{s}.norm", f"{theirs}.norm2{s + 2}")
        found += layer(f"backbone.norm.{s}", f"norm{s + 2}")
    return [
        *found,
        *mlp("backbone.layers.*", "parallel_blocks.*.mlp2"),
        *([] if across else layer("backbone.norm", "norm4")),
        Pair("head.pool.weigh.weight", ("aggregate.weight",), Wrapped(after=1)),
        Pair("head.pool.weigh.bias", ("aggregate.bias",)),
        *layer("head.classify", "head"),
    ]


def attention(ours: str, theirs: str) -> list[Pair]:
    """The maps of attention, without its positions."""
    return [*layer(f"{ours}.qkv", f"{theirs}.qkv"), *layer(f"{ours}.output", f"{theirs}.proj")]


def mlp(ours: str, theirs: str) -> list[Pair]:
    """Both maps of a feed-forward layer."""
    return [*layer(f"{ours}.feedforward.up", f"{theirs}.fc1"), *layer(f"{ours}.feedforward.down", f"{theirs}.fc2")]


MIXER = "backbone.stages.0.blocks.0.blocks.1.mixer"
register_timm(
    TimmFamily(
        name="CoaT",
        system="coat",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Square("patch", "embedding.patch", "patch"),
            Key("channels", "embedding.channels", "channels"),
            Widths(),
            Depths(),
            Key("layers", "backbone.layers", "layers"),
            Key("heads", f"{MIXER}.heads", "heads"),
            Key("windows", f"{MIXER}.windows", "windows"),
            Stages("ratios", "blocks.0.blocks.1.feedforward.ratio", "ratios"),
            Key("eps", f"{MIXER.rpartition('.')[0]}.residual.norm.eps", "eps"),
        ),
        only={"global_pool": "token", "qkv_bias": True},
        table=table,
    )
)
