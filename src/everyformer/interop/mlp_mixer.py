"""MLP-Mixer, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import BLOCK
from everyformer.interop.weights import Pair, layer


def facts(model: Any) -> dict[str, Any]:
    """What a timm `MlpMixer` of plain blocks is."""
    block = model.blocks[0]
    if type(block).__name__ != "MixerBlock":
        return {"blocks": type(block).__name__}
    return {
        "blocks": "MixerBlock", "global_pool": model.global_pool, "classes": model.num_classes,
        "image": model.stem.img_size, "patch": model.stem.patch_size, "channels": model.stem.proj.in_channels,
        "width": model.embed_dim, "depth": len(model.blocks), "hidden": block.mlp_tokens.fc1.out_features,
        "ratio": block.mlp_channels.fc1.out_features / model.embed_dim, "eps": model.norm.eps,
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    found = []
    for ours, theirs in (("mixer", "mlp_tokens"), ("feedforward", "mlp_channels")):
        found += layer(f"{BLOCK}.{ours}.up", f"blocks.*.{theirs}.fc1")
        found += layer(f"{BLOCK}.{ours}.down", f"blocks.*.{theirs}.fc2")
    for k in (0, 1):
        found += layer(f"{BLOCK}.residual.{k}.norm", f"blocks.*.norm{k + 1}")
    return [
        *layer("embedding.project", "stem.proj"),
        *found,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="MlpMixer",
        system="mlp-mixer",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Square("image", "embedding.image", "image"),
            Square("patch", "embedding.patch", "patch"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "width", "width"),
            Key("depth", "backbone.blocks", "depth"),
            Key("hidden", f"{BLOCK}.mixer.hidden"),
            Key("ratio", f"{BLOCK}.feedforward.ratio", "ratio"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        only={"blocks": "MixerBlock", "global_pool": "avg"},
        table=table,
    )
)
