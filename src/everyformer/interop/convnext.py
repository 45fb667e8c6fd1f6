"""ConvNeXt to and from Hugging Face transformers and timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.live_tables import side
from everyformer.interop.names import activation
from everyformer.interop.ways import Way
from everyformer.interop.weights import Pair, layer
from everyformer.published.convnext import convnext

BLOCK = "backbone.stages.*.blocks.*"


def design(model: Any) -> Design:
    """The design of a `ConvNextForImageClassification`; the epsilon of its config is that of the last norm alone."""
    config = model.config
    made = convnext(
        classes=config.num_labels,
        image=side("image", config.image_size),
        patch=config.patch_size,
        channels=config.num_channels,
        widths=tuple(config.hidden_sizes),
        depths=tuple(config.depths),
        scale=config.layer_scale_init_value,
        drop_path=config.drop_path_rate,
    )
    made = made.set(f"{BLOCK}.mixer.feedforward.activation", activation(config.hidden_act))
    return made.set("head.norm.eps", config.layer_norm_eps)


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's."""
    stage = "convnext.encoder.stages.*"
    table = _blocks(f"{stage}.layers.*", "dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter")
    table += layer("embedding.project", "convnext.embeddings.patch_embeddings")
    table += layer("embedding.norm", "convnext.embeddings.layernorm")
    table += layer("backbone.stages.*.enter.before", f"{stage}.downsampling_layer.0")
    table += layer("backbone.stages.*.enter.project", f"{stage}.downsampling_layer.1")
    return table + layer("head.norm", "convnext.layernorm") + layer("head.classify", "classifier")


def _blocks(theirs: str, conv: str, norm: str, up: str, down: str, scale: str) -> list[Pair]:
    table = layer(f"{BLOCK}.mixer.mixer.conv", f"{theirs}.{conv}") + layer(f"{BLOCK}.mixer.norm", f"{theirs}.{norm}")
    table += layer(f"{BLOCK}.mixer.feedforward.up", f"{theirs}.{up}")
    table += layer(f"{BLOCK}.mixer.feedforward.down", f"{theirs}.{down}")
    return [*table, Pair(f"{BLOCK}.residual.0.branches.0.factor", (f"{theirs}.{scale}",))]


TRANSFORMERS = Way(design, pairs)
"""`ConvNextForImageClassification`."""


def timm_design(model: Any) -> Design:
    """The design of a timm `ConvNeXt` without a hidden layer in its head."""
    first = model.stages[0].blocks[0]
    return convnext(
        classes=model.num_classes,
        patch=side("patch", model.stem[0].kernel_size),
        channels=model.stem[0].in_channels,
        widths=tuple(each.blocks[0].conv_dw.out_channels for each in model.stages),
        depths=tuple(len(each.blocks) for each in model.stages),
        kernel=side("kernel", first.conv_dw.kernel_size),
        ratio=first.mlp.fc1.out_features / first.mlp.fc1.in_features,
        eps=first.norm.eps,
    )


def timm_pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    table = _blocks("stages.*.blocks.*", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
    table += layer("embedding.project", "stem.0") + layer("embedding.norm", "stem.1")
    table += layer("backbone.stages.*.enter.before", "stages.*.downsample.0")
    table += layer("backbone.stages.*.enter.project", "stages.*.downsample.1")
    return table + layer("head.norm", "head.norm") + layer("head.classify", "head.fc")


TIMM = Way(timm_design, timm_pairs)
"""timm's `ConvNeXt`."""
