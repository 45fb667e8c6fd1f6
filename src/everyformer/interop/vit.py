"""ViT, of Hugging Face transformers and of timm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.embeddings import MaskedPatches
from everyformer.heads import CellHead
from everyformer.interop.bert import pooled
from everyformer.interop.config import Config, Custom, Depth, Key, Labels, Square
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following, Leading, Wrapped
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.pyramids import pointwise
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.variants import exchanged
from everyformer.interop.weights import Pair, layer
from everyformer.published.upon import Make
from everyformer.registry import find_system
from everyformer.specs import spec

BLOCK = "backbone.blocks.*"
SIZES = (
    Key("hidden_size", "width", "width"),
    Depth("num_hidden_layers", "backbone.blocks"),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden"),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu"),
    Key("hidden_dropout_prob", "embedding.dropout", "dropout", default=0.0),
    Key("attention_probs_dropout_prob", f"{BLOCK}.mixer.dropout", default=0.0),
)
"""What the configs of all relatives share."""
ENCODER = (
    *SIZES,
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-12),
    Key("qkv_bias", f"{BLOCK}.mixer.bias", "qkv_bias", default=True),
)
"""What the configs of ViT's nearer relatives share."""
PICTURE = (
    Square("image_size", "embedding.image", "image"),
    Square("patch_size", "embedding.patch", "patch"),
    Key("num_channels", "embedding.channels", "channels", default=3),
)
"""How their configs speak of pictures."""
OUTPUT = layer(f"{BLOCK}.mixer.output", "encoder.layer.*.attention.output.dense")
QKV = [f"encoder.layer.*.attention.attention.{name}" for name in ("query", "key", "value")]
BLOCKS = [
    *layer(f"{BLOCK}.mixer.qkv", *QKV),
    *OUTPUT,
    *layer(f"{BLOCK}.residual.0.norm", "encoder.layer.*.layernorm_before"),
    *layer(f"{BLOCK}.feedforward.up", "encoder.layer.*.intermediate.dense"),
    *layer(f"{BLOCK}.feedforward.down", "encoder.layer.*.output.dense"),
    *layer(f"{BLOCK}.residual.1.norm", "encoder.layer.*.layernorm_after"),
]


def leading(*tokens: str, positions: str) -> list[Pair]:
    """Learned tokens in front and the positions of all: ours have the positions of the first in the tokens."""
    return [
        Pair("embedding.first", (*tokens, positions), Leading()),
        Pair("embedding.positions.table", (positions,), Following(len(tokens), wrapped=True)),
    ]


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *leading("embeddings.cls_token", positions="embeddings.position_embeddings"),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *BLOCKS,
        *layer("backbone.norm", "layernorm"),
        *layer("head.hidden", "pooler.dense"),
    ]


FAMILY = register(
    Family(
        name="vit",
        system="vit",
        settings=(*ENCODER, *PICTURE),
        table=table,
        prefix="vit",
        tops={
            "ViTForImageClassification": Top(
                settings=(Labels("head.classes"),), table=(*layer("head.classify", "classifier"),), unused=("*pooler.*",)
            ),
            "ViTModel": Top(head=pooled, prefix=""),
        },
    )
)  # fmt: skip


def stride(config: Config) -> dict[str, Any]:
    """As many pixels as each cell answers for."""
    return {"head.outputs": config.value("encoder_stride", 16) ** 2 * config.value("num_channels", 3)}


def write_stride(design: Design) -> dict[str, Any]:
    """The same, as a side."""
    return {"encoder_stride": math.isqrt(design.get("head.outputs") // design.get("embedding.channels"))}


def hiding(family: Family) -> Make:
    """What makes the same where some patches are hidden."""
    return exchanged(find_system(family.system).make, "embedding", MaskedPatches)


def fills_in(family: Family, name: str, token: str, make: Callable[[Family], Make] = hiding) -> Family:
    """The same where some patches are hidden behind a learned token, and the pixels of every patch are the answer."""
    top = Top(
        head=lambda config: spec(CellHead, outputs=1),
        settings=(Custom(stride, write_stride),),
        table=(Pair("embedding.masked", (token,), Wrapped(2)), *pointwise("head.project", "decoder.0")),
        unused=("*.pooler.*",),
    )
    return replace(family, make=make(family), tops={name: top})


register(fills_in(FAMILY, "ViTForMaskedImageModeling", "vit.embeddings.mask_token"))


def facts(model: Any) -> dict[str, Any]:
    """What a timm `VisionTransformer` is."""
    return {
        "global_pool": model.global_pool,
        "no_embed_class": model.no_embed_class,
        "classes": model.num_classes,
        "image": model.patch_embed.img_size,
        "patch": model.patch_embed.patch_size,
        "channels": model.patch_embed.proj.in_channels,
        "width": model.embed_dim,
        "depth": len(model.blocks),
        "heads": model.blocks[0].attn.num_heads,
        "hidden": model.blocks[0].mlp.fc1.out_features,
        "eps": model.blocks[0].norm1.eps,
    }


TIMM_SETTINGS = (
    Key("classes", "head.classes", "classes"),
    Square("image", "embedding.image", "image"),
    Square("patch", "embedding.patch", "patch"),
    Key("channels", "embedding.channels", "channels"),
    Key("width", "width", "width"),
    Key("depth", "backbone.blocks", "depth"),
    Key("heads", f"{BLOCK}.mixer.heads", "heads"),
    Key("hidden", f"{BLOCK}.feedforward.hidden"),
    Key("eps", "backbone.norm.eps", "eps"),
)
"""What the facts are in our designs."""
TIMM_BLOCKS = [
    *layer(f"{BLOCK}.mixer.qkv", "blocks.*.attn.qkv"),
    *layer(f"{BLOCK}.mixer.output", "blocks.*.attn.proj"),
    *layer(f"{BLOCK}.feedforward.up", "blocks.*.mlp.fc1"),
    *layer(f"{BLOCK}.feedforward.down", "blocks.*.mlp.fc2"),
    *layer(f"{BLOCK}.residual.0.norm", "blocks.*.norm1"),
    *layer(f"{BLOCK}.residual.1.norm", "blocks.*.norm2"),
]


def timm_table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    return [
        *leading("cls_token", positions="pos_embed"),
        *layer("embedding.project", "patch_embed.proj"),
        *TIMM_BLOCKS,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="VisionTransformer",
        system="vit",
        facts=facts,
        settings=TIMM_SETTINGS,
        only={"global_pool": "token", "no_embed_class": False},
        table=timm_table,
    )
)
