"""Masked autoencoders, from a live model of Hugging Face transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.config import Config
from everyformer.interop.forms import Wrapped
from everyformer.interop.live_tables import side
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.mae import vit_mae
from everyformer.tokens import Tokens

FIXED = {"embedding.positions": "vit.embeddings.position_embeddings", "positions": "decoder.decoder_pos_embed"}
"""Our fixed positions, and the tensors in which they keep theirs."""


def design(model: Any) -> Design:
    """The design of a `ViTMAEForPreTraining`."""
    config = model.config
    Config(config.to_dict()).only({"decoder_intermediate_size": 4 * config.decoder_hidden_size, "qkv_bias": True})
    made = vit_mae(
        image=side("image", config.image_size),
        patch=side("patch", config.patch_size),
        channels=config.num_channels,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ratio=config.intermediate_size / config.hidden_size,
        eps=config.layer_norm_eps,
        narrow=config.decoder_hidden_size,
        narrow_depth=config.decoder_num_hidden_layers,
        narrow_heads=config.decoder_num_attention_heads,
        share=config.mask_ratio,
    )
    return made.set("**.feedforward.activation", ACTIVATIONS[config.hidden_act])


def blocks(ours: str, theirs: str) -> list[Pair]:
    """The blocks of encoder or decoder."""
    return [
        *layer(f"{ours}.*.mixer.qkv", *(f"{theirs}.*.attention.{name}_proj" for name in "qkv")),
        *layer(f"{ours}.*.mixer.output", f"{theirs}.*.attention.o_proj"),
        *layer(f"{ours}.*.feedforward.up", f"{theirs}.*.mlp.fc1"),
        *layer(f"{ours}.*.feedforward.down", f"{theirs}.*.mlp.fc2"),
        *layer(f"{ours}.*.residual.0.norm", f"{theirs}.*.layernorm_before"),
        *layer(f"{ours}.*.residual.1.norm", f"{theirs}.*.layernorm_after"),
    ]


PAIRS = [
    Pair("embedding.first", ("vit.embeddings.cls_token",), Wrapped(1)),
    Pair("hidden", ("decoder.mask_token",), Wrapped(2)),
    *layer("embedding.project", "vit.embeddings.patch_embeddings.projection"),
    *blocks("backbone.blocks", "vit.layers"),
    *layer("backbone.norm", "vit.layernorm"),
    *layer("narrow", "decoder.decoder_embed"),
    *blocks("decoder.blocks", "decoder.decoder_layers"),
    *layer("decoder.norm", "decoder.decoder_norm"),
    *layer("head.project", "decoder.decoder_pred"),
]
"""Which of our tensors is which of theirs."""


def check_fixed(made: Any, found: dict[str, Tensor]) -> None:
    """Refuse positions that are not the fixed ones of ours."""
    tokens = made.embedding.cut(made.embedding.example()["inputs"])
    for path, name in FIXED.items():
        part, theirs = made.get_submodule(path), found[name][0]
        ours = part(Tokens(tokens.values.new_zeros(1, tokens.count, part.width), positions=tokens.positions))[0]
        if theirs[0].abs().max() > 0 or not torch.allclose(theirs[1:], ours, atol=1e-4):
            raise DoesNotFit(f"{name} is not the fixed sines and cosines of the published model", path)


def from_live(model: Any) -> Any:
    """Our model with the weights of a `ViTMAEForPreTraining`; a tensor unused or unfilled is an error."""
    made, found = design(model).build(), tensors(model)
    check_fixed(made, found)
    fill(made, PAIRS, found, unused=(*FIXED.values(),))
    return made.train(model.training)
