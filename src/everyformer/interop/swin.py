"""Swin and Swin V2 to and from Hugging Face transformers and timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.forms import Joined, Wrapped
from everyformer.interop.live_tables import side
from everyformer.interop.names import activation
from everyformer.interop.ways import Way
from everyformer.interop.weights import Pair, layer
from everyformer.published.swin import swin, swin_v2

BLOCK = "backbone.stages.*.blocks.*"
MIXER = f"{BLOCK}.mixer.mixer"


def design(model: Any) -> Design:
    """The design of a `SwinForImageClassification`."""
    config = model.config
    made = swin(
        classes=config.num_labels,
        image=side("image", config.image_size),
        patch=side("patch", config.patch_size),
        channels=config.num_channels,
        width=config.embed_dim,
        depths=tuple(config.depths),
        heads=tuple(config.num_heads),
        window=config.window_size,
        ratio=config.mlp_ratio,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        drop_path=config.drop_path_rate,
    )
    made = made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))
    return made.set(f"{MIXER}.bias", config.qkv_bias).set(f"{MIXER}.output_bias", True)


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's."""
    theirs = "swin.encoder.layers.*.blocks.*"
    table = layer("embedding.project", "swin.embeddings.patch_embeddings.projection")
    table += layer("embedding.norm", "swin.embeddings.norm")
    table += layer(f"{MIXER}.qkv", *(f"{theirs}.attention.{x}_proj" for x in "qkv"), bias=model.config.qkv_bias)
    table += layer(f"{MIXER}.output", f"{theirs}.attention.o_proj")
    bias = f"{theirs}.attention.relative_position_bias.relative_position_bias_table"
    table.append(Pair(f"{MIXER}.positions.table", (bias,), Joined(transposed=True)))
    table += layer(f"{BLOCK}.residual.0.norm", f"{theirs}.layernorm_before")
    table += layer(f"{BLOCK}.residual.1.norm", f"{theirs}.layernorm_after")
    table += layer(f"{BLOCK}.feedforward.up", f"{theirs}.mlp.fc1")
    table += layer(f"{BLOCK}.feedforward.down", f"{theirs}.mlp.fc2")
    for i in range(1, len(model.config.depths)):
        ours, before = f"backbone.stages.{i}.enter", f"swin.encoder.layers.{i - 1}.downsample"
        table += layer(f"{ours}.norm", f"{before}.norm") + layer(f"{ours}.project", f"{before}.reduction", bias=False)
    return table + layer("backbone.norm", "swin.layernorm") + layer("head.classify", "classifier")


def timm_design(model: Any) -> Design:
    """The design of a timm `SwinTransformer`."""
    blocks = [each.blocks[0] for each in model.layers]
    return swin(
        classes=model.num_classes,
        image=side("image", model.patch_embed.img_size),
        patch=side("patch", model.patch_embed.patch_size),
        channels=model.patch_embed.proj.in_channels,
        width=model.patch_embed.proj.out_channels,
        depths=tuple(len(each.blocks) for each in model.layers),
        heads=tuple(each.attn.num_heads for each in blocks),
        window=side("window", blocks[0].attn.window_size),
        ratio=blocks[0].mlp_ratio,
        drop_path=getattr(model.layers[-1].blocks[-1].drop_path2, "drop_prob", 0.0),
    )


def timm_pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    theirs = "layers.*.blocks.*"
    table = layer("embedding.project", "patch_embed.proj") + layer("embedding.norm", "patch_embed.norm")
    table += layer(f"{MIXER}.qkv", f"{theirs}.attn.qkv") + layer(f"{MIXER}.output", f"{theirs}.attn.proj")
    bias = f"{theirs}.attn.relative_position_bias_table"
    table.append(Pair(f"{MIXER}.positions.table", (bias,), Joined(transposed=True)))
    for k in (0, 1):
        table += layer(f"{BLOCK}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
    table += layer(f"{BLOCK}.feedforward.up", f"{theirs}.mlp.fc1")
    table += layer(f"{BLOCK}.feedforward.down", f"{theirs}.mlp.fc2")
    table += layer("backbone.stages.*.enter.norm", "layers.*.downsample.norm")
    table += layer("backbone.stages.*.enter.project", "layers.*.downsample.reduction", bias=False)
    return table + layer("backbone.norm", "norm") + layer("head.classify", "head.fc")


TRANSFORMERS = Way(design, pairs)
"""`SwinForImageClassification`."""
TIMM = Way(timm_design, timm_pairs)
"""timm's `SwinTransformer`."""


def design_v2(model: Any) -> Design:
    """The design of a `Swinv2ForImageClassification`."""
    config = model.config
    made = swin_v2(
        classes=config.num_labels,
        image=side("image", config.image_size),
        patch=side("patch", config.patch_size),
        channels=config.num_channels,
        width=config.embed_dim,
        depths=tuple(config.depths),
        heads=tuple(config.num_heads),
        window=config.window_size,
        trained=_trained(config.pretrained_window_sizes),
        ratio=config.mlp_ratio,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        drop_path=config.drop_path_rate,
    )
    return made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))


def _trained(windows: Any) -> tuple[int, ...] | None:
    return tuple(windows) if any(windows) else None


def pairs_v2(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's."""
    theirs = "swinv2.encoder.layers.*.blocks.*"
    own = f"{theirs}.attention.self"
    table = layer("embedding.project", "swinv2.embeddings.patch_embeddings.projection")
    table += layer("embedding.norm", "swinv2.embeddings.norm")
    table += layer(f"{MIXER}.qkv", *(f"{own}.{name}" for name in ("query", "key", "value")), bias=False)
    table.append(Pair(f"{MIXER}.query_bias", (f"{own}.query.bias",)))
    table.append(Pair(f"{MIXER}.value_bias", (f"{own}.value.bias",)))
    table += _cosine(own, "continuous_position_bias_mlp")
    table += layer(f"{MIXER}.output", f"{theirs}.attention.output.dense")
    table += layer(f"{BLOCK}.residual.0.norm", f"{theirs}.layernorm_before")
    table += layer(f"{BLOCK}.residual.1.norm", f"{theirs}.layernorm_after")
    table += layer(f"{BLOCK}.feedforward.up", f"{theirs}.intermediate.dense")
    table += layer(f"{BLOCK}.feedforward.down", f"{theirs}.output.dense")
    for i in range(1, len(model.config.depths)):
        ours, before = f"backbone.stages.{i}.enter", f"swinv2.encoder.layers.{i - 1}.downsample"
        table += layer(f"{ours}.after", f"{before}.norm") + layer(f"{ours}.project", f"{before}.reduction", bias=False)
    return table + layer("backbone.norm", "swinv2.layernorm") + layer("head.classify", "classifier")


def _cosine(own: str, mlp: str) -> list[Pair]:
    """Sharpness and network of offsets, which both libraries store alike."""
    table = [Pair(f"{MIXER}.sharpness", (f"{own}.logit_scale",), Wrapped(after=2))]
    table += layer(f"{MIXER}.positions.up", f"{own}.{mlp}.0")
    return table + layer(f"{MIXER}.positions.down", f"{own}.{mlp}.2", bias=False)


def timm_design_v2(model: Any) -> Design:
    """The design of a timm `SwinTransformerV2`."""
    blocks = [each.blocks[0] for each in model.layers]
    return swin_v2(
        classes=model.num_classes,
        image=side("image", model.patch_embed.img_size),
        patch=side("patch", model.patch_embed.patch_size),
        channels=model.patch_embed.proj.in_channels,
        width=model.patch_embed.proj.out_channels,
        depths=tuple(len(each.blocks) for each in model.layers),
        heads=tuple(each.attn.num_heads for each in blocks),
        window=side("window", blocks[0].attn.window_size),
        trained=_trained([each.attn.pretrained_window_size[0] for each in blocks]),
        ratio=blocks[0].mlp.fc1.out_features / blocks[0].mlp.fc1.in_features,
    )


def timm_pairs_v2(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    theirs = "layers.*.blocks.*"
    table = layer("embedding.project", "patch_embed.proj") + layer("embedding.norm", "patch_embed.norm")
    table += layer(f"{MIXER}.qkv", f"{theirs}.attn.qkv", bias=False)
    table.append(Pair(f"{MIXER}.query_bias", (f"{theirs}.attn.q_bias",)))
    table.append(Pair(f"{MIXER}.value_bias", (f"{theirs}.attn.v_bias",)))
    table += _cosine(f"{theirs}.attn", "cpb_mlp") + layer(f"{MIXER}.output", f"{theirs}.attn.proj")
    for k in (0, 1):
        table += layer(f"{BLOCK}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
    table += layer(f"{BLOCK}.feedforward.up", f"{theirs}.mlp.fc1")
    table += layer(f"{BLOCK}.feedforward.down", f"{theirs}.mlp.fc2")
    table += layer("backbone.stages.*.enter.after", "layers.*.downsample.norm")
    table += layer("backbone.stages.*.enter.project", "layers.*.downsample.reduction", bias=False)
    return table + layer("backbone.norm", "norm") + layer("head.classify", "head.fc")


TRANSFORMERS_V2 = Way(design_v2, pairs_v2)
"""`Swinv2ForImageClassification`."""
TIMM_V2 = Way(timm_design_v2, timm_pairs_v2)
"""timm's `SwinTransformerV2`."""
