"""CaiT, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Wrapped
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import TIMM_BLOCKS
from everyformer.interop.weights import Pair, layer

PATCHES = "backbone.blocks.0.body.blocks"


def facts(model: Any) -> dict[str, Any]:
    """What a timm `Cait` is."""
    return {
        "global_pool": model.global_pool, "classes": model.num_classes, "image": model.patch_embed.img_size,
        "patch": model.patch_embed.patch_size, "channels": model.patch_embed.proj.in_channels, "width": model.embed_dim,
        "depth": len(model.blocks), "asking": len(model.blocks_token_only), "heads": model.blocks[0].attn.num_heads,
        "ratio": model.blocks[0].mlp.fc1.out_features / model.embed_dim, "eps": model.norm.eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    found = [Pair(each.ours.replace("backbone.blocks", PATCHES), each.theirs) for each in TIMM_BLOCKS]
    for k, name in enumerate(("proj_l", "proj_w")):
        found += layer(f"{PATCHES}.*.mixer.steps.{k}.mix", f"blocks.*.attn.{name}")
        found.append(Pair(f"{PATCHES}.*.residual.{k}.branches.0.factor", (f"blocks.*.gamma_{k + 1}",)))
    for i in range(1, len(design.get("backbone.blocks"))):
        ours, theirs = f"backbone.blocks.{i}", f"blocks_token_only.{i - 1}"
        found += layer(f"{ours}.mixer.query", f"{theirs}.attn.q")
        found += layer(f"{ours}.mixer.key_value", f"{theirs}.attn.k", f"{theirs}.attn.v")
        found += layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
        found += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        found += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
        for k in (0, 1):
            found += layer(f"{ours}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
            found.append(Pair(f"{ours}.residual.{k}.branches.0.factor", (f"{theirs}.gamma_{k + 1}",)))
    return [
        Pair("embedding.first", ("cls_token",), Wrapped(1)),
        Pair("embedding.positions.table", ("pos_embed",), Wrapped(1)),
        *layer("embedding.project", "patch_embed.proj"),
        *found,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="Cait",
        system="cait",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Square("patch", "embedding.patch", "patch"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "width", "width"),
            Key("depth", PATCHES, "depth"),
            Key("heads", f"{PATCHES}.*.mixer.heads", "heads"),
            Key("ratio", f"{PATCHES}.*.feedforward.ratio", "ratio"),
            Key("asking", "backbone.blocks", "class_depth"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        only={"global_pool": "token"},
        table=table,
    )
)
