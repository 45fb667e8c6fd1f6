"""PoolFormer to and from Hugging Face transformers and timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.names import activation, only
from everyformer.interop.ways import Way, each_stage, pointwise
from everyformer.interop.weights import Pair, layer
from everyformer.norms import SampleNorm
from everyformer.published.poolformer import poolformer
from everyformer.specs import spec

BLOCK = "backbone.stages.*.blocks.*"


def design(model: Any) -> Design:
    """The design of a `PoolFormerForImageClassification`."""
    config = model.config
    count = config.num_encoder_blocks
    only(config, use_layer_scale=True)
    each_stage(config, patch_sizes=[7] + [3] * (count - 1), padding=[2] + [1] * (count - 1))
    each_stage(config, strides=[4] + [2] * (count - 1))
    made = poolformer(
        classes=config.num_labels,
        channels=config.num_channels,
        widths=tuple(config.hidden_sizes),
        depths=tuple(config.depths),
        size=config.pool_size,
        ratio=config.mlp_ratio,
        scale=config.layer_scale_init_value,
        drop_path=config.drop_path_rate,
    )
    return made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's."""
    theirs = "poolformer.encoder.block.*.*"
    table = layer("embedding.project", "poolformer.encoder.patch_embeddings.0.projection")
    table += layer("backbone.stages.*.enter.project", "poolformer.encoder.patch_embeddings.*.projection")
    for k, (norm, conv, map_) in enumerate((("before_norm", "conv1", "up"), ("after_norm", "conv2", "down"))):
        table += layer(f"{BLOCK}.residual.{k}.norm", f"{theirs}.{norm}")
        table.append(Pair(f"{BLOCK}.residual.{k}.branches.0.factor", (f"{theirs}.layer_scale_{k + 1}",)))
        table += pointwise(f"{BLOCK}.feedforward.{map_}", f"{theirs}.output.{conv}")
    return table + layer("backbone.norm", "norm") + layer("head.classify", "classifier")


TRANSFORMERS = Way(design, pairs)
"""`PoolFormerForImageClassification`."""


def timm_design(model: Any) -> Design:
    """The design of timm's PoolFormer, whose last norm stands behind the mean."""
    first = model.stages[0].blocks[0]
    made = poolformer(
        classes=model.num_classes,
        channels=model.stem.conv.in_channels,
        widths=tuple(each.blocks[0].norm1.num_channels for each in model.stages),
        depths=tuple(len(each.blocks) for each in model.stages),
        size=first.token_mixer.pool.kernel_size,
        scale=1e-5,
    )
    return made.remove("backbone.norm").set("head.norm", spec(SampleNorm))


def timm_pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    theirs = "stages.*.blocks.*"
    table = layer("embedding.project", "stem.conv")
    table += layer("backbone.stages.*.enter.project", "stages.*.downsample.conv")
    for k, map_ in enumerate(("up", "down")):
        table += layer(f"{BLOCK}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
        table.append(Pair(f"{BLOCK}.residual.{k}.branches.0.factor", (f"{theirs}.layer_scale{k + 1}.scale",)))
        table += pointwise(f"{BLOCK}.feedforward.{map_}", f"{theirs}.mlp.fc{k + 1}")
    return table + layer("head.norm", "head.norm") + layer("head.classify", "head.fc")


TIMM = Way(timm_design, timm_pairs)
"""timm's `MetaFormer` with pooling."""
