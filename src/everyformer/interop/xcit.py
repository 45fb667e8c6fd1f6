"""XCiT, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.cait import PATCHES
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Wrapped
from everyformer.interop.pyramids import pointwise
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, batch_norm, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `Xcit` is."""
    block = model.blocks[0]
    return {
        "global_pool": model.global_pool, "positions": model.pos_embed is not None, "classes": model.num_classes,
        "image": model.patch_embed.img_size, "patch": model.patch_embed.patch_size, "channels": model.in_chans,
        "width": model.embed_dim, "depth": len(model.blocks), "heads": block.attn.num_heads,
        "ratio": block.mlp.fc1.out_features / model.embed_dim, "asking": len(model.cls_attn_blocks),
        "normed": model.cls_attn_blocks[0].tokens_norm, "eps": model.norm.eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's, of whose blocks each is two of ours."""
    found = []
    for i, convolution in enumerate(range(0, 3 * (design.get("embedding.patch").bit_length() - 1), 3)):
        # Theirs stand in one row with the activations: convolution and norm, activation, convolution and norm, ...
        theirs = f"patch_embed.proj.{convolution // 3 * 2}"
        found += layer(f"embedding.convs.{i}", f"{theirs}.0") + batch_norm(f"embedding.norms.{i}", f"{theirs}.1")
    for i in range(len(design.get(PATCHES)) // 2):
        theirs = f"blocks.{i}"
        covariance, local = f"{PATCHES}.{2 * i}", f"{PATCHES}.{2 * i + 1}"
        found += layer(f"{covariance}.mixer.qkv", f"{theirs}.attn.qkv")
        found += layer(f"{covariance}.mixer.output", f"{theirs}.attn.proj")
        found.append(Pair(f"{covariance}.mixer.temperature", (f"{theirs}.attn.temperature",), Wrapped(after=2)))
        for k in (0, 1):
            found += layer(f"{local}.mixer.convs.{k}", f"{theirs}.local_mp.conv{k + 1}")
        found += batch_norm(f"{local}.mixer.norm", f"{theirs}.local_mp.bn")
        for ours, k in ((f"{covariance}.residual.0", 1), (f"{local}.residual.0", 3), (f"{local}.residual.1", 2)):
            found += layer(f"{ours}.norm", f"{theirs}.norm{k}")
            found.append(Pair(f"{ours}.branches.0.factor", (f"{theirs}.gamma{k}",)))
        found += mlp(local, theirs)
    for i in range(1, len(design.get("backbone.blocks"))):
        ours, theirs = f"backbone.blocks.{i}", f"cls_attn_blocks.{i - 1}"
        found += layer(f"{ours}.mixer.query", f"{theirs}.attn.q")
        found += layer(f"{ours}.mixer.key_value", f"{theirs}.attn.k", f"{theirs}.attn.v")
        found += layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
        for k in (0, 1):
            found += layer(f"{ours}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
            found.append(Pair(f"{ours}.residual.{k}.branches.0.factor", (f"{theirs}.gamma{k + 1}",)))
        found += mlp(ours, theirs)
    return [
        Pair("embedding.first", ("cls_token",), Wrapped(1)),
        *pointwise("embedding.positions.project", "pos_embed.token_projection"),
        *found,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


def mlp(ours: str, theirs: str) -> list[Pair]:
    """Both maps of a feed-forward layer."""
    return [
        *layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2"),
    ]


register_timm(
    TimmFamily(
        name="Xcit",
        system="xcit",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Key("patch", "embedding.patch", "patch"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "width", "width"),
            Key("depth", PATCHES, "depth"),
            Key("heads", f"{PATCHES}.0.mixer.heads", "heads"),
            Key("ratio", f"{PATCHES}.1.feedforward.ratio", "ratio"),
            Key("asking", "backbone.blocks", "class_depth"),
            Key("normed", "backbone.blocks.1.patches", "normed"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        only={"global_pool": "token", "positions": True},
        table=table,
    )
)
