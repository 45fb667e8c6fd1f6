"""The picture encoder of SigLIP, from a live model of Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from everyformer.designs import Design
from everyformer.interop.live_tables import side
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import BLOCK
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.siglip import siglip


def design(model: Any) -> Design:
    """The design of a `SiglipVisionModel`."""
    config = model.config
    made = siglip(
        image=side("image", config.image_size),
        patch=side("patch", config.patch_size),
        channels=config.num_channels,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        eps=config.layer_norm_eps,
    )
    made = made.set("**.feedforward.activation", ACTIVATIONS[config.hidden_act])
    return made.set(f"{BLOCK}.mixer.dropout", config.attention_dropout)


PAIRS = [
    Pair("embedding.positions.table", ("embeddings.position_embedding.weight",)),
    *layer("embedding.project", "embeddings.patch_embedding"),
    *layer(f"{BLOCK}.mixer.qkv", *(f"encoder.layers.*.self_attn.{name}_proj" for name in "qkv")),
    *layer(f"{BLOCK}.mixer.output", "encoder.layers.*.self_attn.out_proj"),
    *layer(f"{BLOCK}.feedforward.up", "encoder.layers.*.mlp.fc1"),
    *layer(f"{BLOCK}.feedforward.down", "encoder.layers.*.mlp.fc2"),
    *layer(f"{BLOCK}.residual.0.norm", "encoder.layers.*.layer_norm1"),
    *layer(f"{BLOCK}.residual.1.norm", "encoder.layers.*.layer_norm2"),
    *layer("backbone.norm", "post_layernorm"),
    Pair("head.pool.probe", ("probe",)),
    *layer("head.pool.mixer.query", "query"),
    *layer("head.pool.mixer.key_value", "key_value"),
    *layer("head.pool.mixer.output", "head.attention.out_proj"),
    *layer("head.pool.norm", "head.layernorm"),
    *layer("head.pool.feedforward.up", "head.mlp.fc1"),
    *layer("head.pool.feedforward.down", "head.mlp.fc2"),
]
"""Which of our tensors is which of theirs, as `split` gives them."""


def split(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors, queries apart from keys and values in the pool."""
    found = dict(found)
    found["probe"] = found.pop("head.probe")[0]
    for kind in ("weight", "bias"):
        packed = found.pop(f"head.attention.in_proj_{kind}")
        third = len(packed) // 3
        found[f"query.{kind}"], found[f"key_value.{kind}"] = packed.split((third, 2 * third))
    return found


def from_live(model: Any) -> Any:
    """Our model with the weights of a `SiglipVisionModel`; a tensor unused or unfilled is an error."""
    made = design(model).build()
    fill(made, PAIRS, split(tensors(model)))
    return made.train(model.training)
