"""ConvMixer, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.pyramids import pointwise
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import BLOCK
from everyformer.interop.weights import Pair, batch_norm, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `ConvMixer` is."""
    convolution = model.blocks[0][0].fn[0]
    return {
        "global_pool": model.global_pool.pool_type, "classes": model.num_classes, "width": model.num_features,
        "patch": model.stem[0].kernel_size, "channels": model.in_chans, "depth": len(model.blocks),
        "kernel": convolution.kernel_size, "activation": type(model.stem[1]).__name__.lower(), "eps": model.stem[2].eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    return [
        *layer("embedding.project", "stem.0"),
        *batch_norm("embedding.norm", "stem.2"),
        *layer(f"{BLOCK}.mixer.conv", "blocks.*.0.fn.0"),
        *batch_norm(f"{BLOCK}.residual.0.norm", "blocks.*.0.fn.2"),
        *pointwise(f"{BLOCK}.feedforward.linear", "blocks.*.1"),
        *batch_norm(f"{BLOCK}.feedforward.norm", "blocks.*.3"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="ConvMixer",
        system="convmixer",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("patch", "embedding.patch", "patch"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "width", "width"),
            Key("depth", "backbone.blocks", "depth"),
            Square("kernel", f"{BLOCK}.mixer.kernel", "kernel"),
            Key("activation", f"{BLOCK}.mixer.activation", "activation"),
            Key("eps", "embedding.norm.eps", "eps"),
        ),
        only={"global_pool": "avg"},
        table=table,
    )
)
