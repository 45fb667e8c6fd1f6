"""GPT-2 to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.interop.names import activation, activation_of_theirs, only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.gpt import gpt


def design(model: Any) -> Design:
    """The design of a `GPT2LMHeadModel`."""
    config = model.config
    only(config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    made = gpt(
        vocabulary=config.vocab_size,
        length=config.n_positions,
        width=config.n_embd,
        hidden=config.n_inner,
        depth=config.n_layer,
        heads=config.n_head,
        dropout=config.resid_pdrop,
    )
    made = made.set("embedding.dropout", config.embd_pdrop).set("**.norm.eps", config.layer_norm_epsilon)
    made = made.set("backbone.blocks.*.mixer.dropout", config.attn_pdrop)
    return made.set("backbone.blocks.*.feedforward.activation", activation(config.activation_function))


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs; their maps are stored (inputs, outputs)."""
    table = layer("embedding.table", "transformer.wte", bias=False)
    table += layer("embedding.positions.table", "transformer.wpe", bias=False)
    for i in range(model.config.n_layer):
        ours, theirs = f"backbone.blocks.{i}", f"transformer.h.{i}"
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.ln_1")
        table += layer(f"{ours}.mixer.qkv", f"{theirs}.attn.c_attn", transposed=True)
        table += layer(f"{ours}.mixer.output", f"{theirs}.attn.c_proj", transposed=True)
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.ln_2")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.c_fc", transposed=True)
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.c_proj", transposed=True)
    return table + layer("backbone.norm", "transformer.ln_f")


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `GPT2LMHeadModel` with our weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = design_of(model)
    block = "backbone.blocks.0"
    theirs: Any = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=ours.get("embedding.vocabulary"),
            n_positions=ours.get("embedding.positions.length"),
            n_embd=ours.get("width"),
            n_layer=len(ours.get("backbone.blocks")),
            n_head=ours.get(f"{block}.mixer.heads"),
            n_inner=ours.get(f"{block}.feedforward.hidden"),
            activation_function=activation_of_theirs(ours.get(f"{block}.feedforward.activation")),
            resid_pdrop=ours.get(f"{block}.residual.dropout"),
            embd_pdrop=ours.get("embedding.dropout"),
            attn_pdrop=ours.get(f"{block}.mixer.dropout"),
            layer_norm_epsilon=ours.get("backbone.norm.eps"),
        )
    )
    return pour(model, theirs, design(theirs), pairs(theirs))
