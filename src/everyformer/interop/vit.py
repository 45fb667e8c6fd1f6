"""ViT from Hugging Face transformers and from timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.vit import vit


def side(name: str, value: Any) -> int:
    """The side of a square; `value` is a number or a pair of equal numbers."""
    height, width = (value, value) if isinstance(value, int) else value
    if height != width:
        raise BadInput(f"expected a square {name}; given {height}x{width}; build the design with the nearest square")
    return int(height)


def design(model: Any) -> Design:
    """The design of a `ViTForImageClassification`."""
    config = model.config
    made = vit(
        classes=config.num_labels,
        image=side("image", config.image_size),
        patch=side("patch", config.patch_size),
        channels=config.num_channels,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ratio=config.intermediate_size / config.hidden_size,
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
    )
    blocks = "backbone.blocks.*"
    made = made.set(f"{blocks}.feedforward.activation", ACTIVATIONS[config.hidden_act])
    made = made.set(f"{blocks}.mixer.dropout", config.attention_probs_dropout_prob)
    return made.set(f"{blocks}.mixer.bias", config.qkv_bias).set(f"{blocks}.mixer.output_bias", True)


def split_positions(found: dict[str, Tensor], leading: list[str], positions: str) -> dict[str, Tensor]:
    """Their tensors with the positions of leading tokens added to those tokens, as `first`, and the rest as `grid`."""
    found = dict(found)
    table = found.pop(positions)[0]
    first = torch.cat([found.pop(name)[0] for name in leading])
    return {**found, "first": first + table[: len(first)], "grid": table[len(first) :]}


def blocks_of(prefix: str, depth: int, bias: bool = True) -> list[Pair]:
    """The blocks of a Hugging Face vision encoder."""
    table: list[Pair] = []
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"{prefix}.{i}"
        own = f"{theirs}.attention"
        table += layer(f"{ours}.mixer.qkv", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj", bias=bias)
        table += layer(f"{ours}.mixer.output", f"{own}.o_proj")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.layernorm_before")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.layernorm_after")
    return table


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    table = [Pair("embedding.first", ("first",)), Pair("embedding.positions.table", ("grid",))]
    table += layer("embedding.project", "vit.embeddings.patch_embeddings.projection")
    table += blocks_of("vit.layers", model.config.num_hidden_layers, model.config.qkv_bias)
    return table + layer("backbone.norm", "vit.layernorm") + layer("head.classify", "classifier")


def from_transformers(model: Any) -> Any:
    """Our model with the weights of a `ViTForImageClassification`; a tensor unused or unfilled is an error."""
    made = design(model).build()
    names = ["vit.embeddings.cls_token"], "vit.embeddings.position_embeddings"
    fill(made, pairs(model), split_positions(tensors(model), *names))
    return made.train(model.training)


def from_timm(model: Any) -> Any:
    """Our model with the weights of a timm `VisionTransformer` with a class token; a tensor unused or unfilled is an error."""
    if model.global_pool != "token" or model.no_embed_class:
        raise BadInput(
            f"expected a timm ViT that reads its class token; given global_pool='{model.global_pool}', "
            f"no_embed_class={model.no_embed_class}; give one such as vit_tiny_patch16_224"
        )
    norm, mlp = model.norm, model.blocks[0].mlp
    made = vit(
        classes=model.num_classes,
        image=side("image", model.patch_embed.img_size),
        patch=side("patch", model.patch_embed.patch_size),
        channels=model.patch_embed.proj.in_channels,
        width=model.embed_dim,
        depth=len(model.blocks),
        heads=model.blocks[0].attn.num_heads,
        ratio=mlp.fc1.out_features / model.embed_dim,
        eps=norm.eps,
    ).build()
    fill(made, timm_pairs(len(model.blocks)), split_positions(tensors(model), ["cls_token"], "pos_embed"))
    return made.train(model.training)


def timm_pairs(depth: int) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    table = [Pair("embedding.first", ("first",)), Pair("embedding.positions.table", ("grid",))]
    table += layer("embedding.project", "patch_embed.proj")
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"blocks.{i}"
        table += layer(f"{ours}.mixer.qkv", f"{theirs}.attn.qkv") + layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
        for k in (0, 1):
            table += layer(f"{ours}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
    return table + layer("backbone.norm", "norm") + layer("head.classify", "head")
