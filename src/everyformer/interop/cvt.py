"""CvT to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.forms import Wrapped
from everyformer.interop.ways import Way, batch_norm, each_stage
from everyformer.interop.weights import Pair, layer
from everyformer.published.cvt import cvt

BLOCK = "backbone.stages.*.blocks.*"


def design(model: Any) -> Design:
    """The design of a `CvtForImageClassification`."""
    config = model.config
    count = len(config.depth)
    each_stage(config, patch_sizes=[7, 3, 3][:count], patch_stride=[4, 2, 2][:count], patch_padding=[2, 1, 1][:count])
    each_stage(config, cls_token=[False] * (count - 1) + [True], qkv_bias=[True] * count, stride_kv=[2] * count)
    each_stage(config, kernel_qkv=[config.kernel_qkv[0]] * count, mlp_ratio=[config.mlp_ratio[0]] * count)
    return cvt(
        classes=config.num_labels,
        channels=config.num_channels,
        widths=tuple(config.embed_dim),
        depths=tuple(config.depth),
        heads=tuple(config.num_heads),
        kernel=config.kernel_qkv[0],
        ratio=config.mlp_ratio[0],
        dropout=config.drop_rate[-1],
        attention_dropout=config.attention_drop_rate[-1],
        drop_path=config.drop_path_rate[-1],
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's."""
    stage = "cvt.encoder.stages.*"
    block, embedding = f"{stage}.layers.*", f"{stage}.embedding.convolution_embeddings"
    first, last = embedding.replace("*", "0"), len(model.config.depth) - 1
    table = layer("embedding.project", f"{first}.projection") + layer("embedding.norm", f"{first}.normalization")
    table += layer("backbone.stages.*.enter.project", f"{embedding}.projection")
    table += layer("backbone.stages.*.enter.norm", f"{embedding}.normalization")
    for i, name in enumerate(("query", "key", "value")):
        conv = f"{block}.attention.attention.convolution_projection_{name}.convolution_projection"
        table += layer(f"{BLOCK}.mixer.convs.{i}.conv", f"{conv}.convolution", bias=False)
        table += batch_norm(f"{BLOCK}.mixer.convs.{i}.norm", f"{conv}.normalization")
        table += layer(f"{BLOCK}.mixer.maps.{i}", f"{block}.attention.attention.projection_{name}")
    table += layer(f"{BLOCK}.mixer.output", f"{block}.attention.output.dense")
    table += layer(f"{BLOCK}.feedforward.up", f"{block}.intermediate.dense")
    table += layer(f"{BLOCK}.feedforward.down", f"{block}.output.dense")
    table += layer(f"{BLOCK}.residual.0.norm", f"{block}.layernorm_before")
    table += layer(f"{BLOCK}.residual.1.norm", f"{block}.layernorm_after")
    table.append(Pair(f"backbone.stages.{last}.first", (f"cvt.encoder.stages.{last}.cls_token",), Wrapped(1)))
    return table + layer("backbone.norm", "layernorm") + layer("head.classify", "classifier")


TRANSFORMERS = Way(design, pairs)
"""`CvtForImageClassification`."""
