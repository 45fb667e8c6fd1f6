"""TNT, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Shares, Wrapped
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import BLOCK, leading
from everyformer.interop.weights import Pair, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `TNT` is."""
    block, words = model.blocks[0], model.pixel_embed
    return {
        "global_pool": model.global_pool, "qkv_bias": block.attn_in.qk.bias is not None, "classes": model.num_classes,
        "image": words.img_size, "patch": words.patch_size, "stride": words.proj.stride, "channels": model.in_chans,
        "width": model.embed_dim, "word_width": words.in_dim, "depth": len(model.blocks),
        "heads": block.attn_out.num_heads, "word_heads": block.attn_in.num_heads,
        "ratio": block.mlp.fc1.out_features / model.embed_dim, "across": words.legacy, "eps": model.norm.eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    found = []
    for level, theirs in (("inner", "_in"), ("outer", "_out")):
        ours, attention = f"{BLOCK}.{level}", f"blocks.*.attn{theirs}"
        mlp, norm = ("mlp_in", "norm_mlp_in") if level == "inner" else ("mlp", "norm_mlp")
        found += layer(f"{ours}.mixer.qkv", f"{attention}.qk", f"{attention}.v", form=Shares((2, 1)))
        found += layer(f"{ours}.mixer.output", f"{attention}.proj")
        found += layer(f"{ours}.residual.0.norm", f"blocks.*.norm{theirs}")
        found += layer(f"{ours}.residual.1.norm", f"blocks.*.{norm}")
        found += layer(f"{ours}.feedforward.up", f"blocks.*.{mlp}.fc1")
        found += layer(f"{ours}.feedforward.down", f"blocks.*.{mlp}.fc2")
    return [
        *leading("cls_token", positions="patch_pos"),
        Pair("embedding.places", ("pixel_pos",), Wrapped(1)),
        *layer("embedding.words", "pixel_embed.proj"),
        *layer("embedding.word_norm", "norm1_proj"),
        *layer("embedding.project", "proj"),
        *layer("embedding.sentence_norm", "norm2_proj"),
        *found,
        *layer(f"{BLOCK}.each", "blocks.*.norm1_proj"),
        *layer(f"{BLOCK}.norm", "blocks.*.norm1_proj"),
        *layer(f"{BLOCK}.project", "blocks.*.proj"),
        *layer(f"{BLOCK}.after", "blocks.*.norm2_proj"),
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="TNT",
        system="tnt",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Square("patch", "embedding.patch", "patch"),
            Square("stride", "embedding.stride", "stride"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "backbone.blocks.0.inside", "width"),
            Key("word_width", "embedding.word_width", "word_width"),
            Key("depth", "backbone.blocks", "depth"),
            Key("heads", f"{BLOCK}.outer.mixer.heads", "heads"),
            Key("word_heads", f"{BLOCK}.inner.mixer.heads", "word_heads"),
            Key("ratio", f"{BLOCK}.outer.feedforward.ratio", "ratio"),
            Key("across", "embedding", "across"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        only={"global_pool": "token", "qkv_bias": False},
        table=table,
    )
)
