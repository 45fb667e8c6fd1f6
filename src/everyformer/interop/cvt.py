"""CvT."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Wrapped
from everyformer.interop.poolformer import BARE
from everyformer.interop.pyramids import (
    BLOCK,
    CHANNELS,
    STAGE,
    Alike,
    Depths,
    DropPath,
    Fixed,
    Last,
    Stages,
    Widths,
    maps,
    norms,
    stages,
)
from everyformer.interop.weights import Pair, batch_norm, layer

NAMES = ("query", "key", "value")


def leading(config: Config) -> dict[str, Any]:
    """Nothing; a class token stands in the last stage alone."""
    config.only({"cls_token": _leads(len(config["depth"]))})
    return {}


def _leads(count: int) -> list[bool]:
    return [False] * (count - 1) + [True]


def table(design: Design) -> list[Pair]:
    """The body."""
    stage = "encoder.stages.*"
    own, embedding = f"{stage}.layers.*", f"{stage}.embedding.convolution_embeddings"
    found = [
        *layer("embedding.project", f"{embedding}.projection".replace("*", "0")),
        *layer("embedding.norm", f"{embedding}.normalization".replace("*", "0")),
        *layer(f"{STAGE}.enter.project", f"{embedding}.projection"),
        *layer(f"{STAGE}.enter.norm", f"{embedding}.normalization"),
        Pair(f"{STAGE}.first", (f"{stage}.cls_token",), Wrapped(1)),
        *layer(f"{BLOCK}.mixer.output", f"{own}.attention.output.dense"),
        *maps(f"{own}.intermediate.dense", f"{own}.output.dense"),
        *norms(f"{own}.layernorm_before", f"{own}.layernorm_after"),
    ]
    for i, name in enumerate(NAMES):
        convolution = f"{own}.attention.attention.convolution_projection_{name}.convolution_projection"
        found += layer(f"{BLOCK}.mixer.convs.{i}.conv", f"{convolution}.convolution", bias=False)
        found += batch_norm(f"{BLOCK}.mixer.convs.{i}.norm", f"{convolution}.normalization")
        found += layer(f"{BLOCK}.mixer.maps.{i}", f"{own}.attention.attention.projection_{name}")
    return found


register(
    Family(
        name="cvt",
        system="cvt",
        settings=(
            CHANNELS,
            Widths("embed_dim"),
            Depths("depth"),
            Stages("num_heads", "blocks.*.mixer.heads", "heads"),
            Alike(Key("kernel_qkv", f"{BLOCK}.mixer.kernel", "kernel", default=3)),
            Alike(Key("mlp_ratio", f"{BLOCK}.feedforward.ratio", "ratio", default=4.0)),
            Last(Key("drop_rate", f"{BLOCK}.residual.dropout", "dropout")),
            Last(Key("attention_drop_rate", f"{BLOCK}.mixer.dropout", "attention_dropout")),
            Last(DropPath()),
            Fixed("patch_sizes", 7, 3),
            Fixed("patch_stride", 4, 2),
            Fixed("patch_padding", 2, 1),
            Fixed("qkv_bias", True, True),
            Fixed("stride_q", 1, 1),
            Fixed("stride_kv", 2, 2),
            Custom(leading, lambda design: {"cls_token": _leads(stages(design))}),
        ),
        table=table,
        prefix="cvt",
        tops={
            "CvtForImageClassification": Top(
                settings=(Labels("head.classes"),),
                table=(*layer("backbone.norm", "layernorm"), *layer("head.classify", "classifier")),
            ),
            "CvtModel": BARE,
        },
    )
)
