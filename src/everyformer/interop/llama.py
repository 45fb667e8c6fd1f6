"""Llama to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.errors import DoesNotFit
from everyformer.heads import TiedHead
from everyformer.interop.names import only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.llama import llama

SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""Their names of what `positions.Rotary(llama3=...)` holds."""


def design(model: Any) -> Design:
    """The design of a `LlamaForCausalLM`."""
    config = model.config
    only(config, hidden_act="silu", mlp_bias=False)
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise DoesNotFit(f"rope_type '{kind}'; the llama system has 'default' and 'llama3'", "positions")
    scaling = tuple(float(rope[name]) for name in SCALING) if kind == "llama3" else None
    made = llama(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_width=config.head_dim,
        base=rope["rope_theta"],
        llama3=scaling,
        tied=model.lm_head.weight is model.model.embed_tokens.weight,
        bias=config.attention_bias,
        eps=config.rms_norm_eps,
    )
    return made.set("backbone.blocks.*.mixer.dropout", config.attention_dropout)


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    bias = model.config.attention_bias
    table = layer("embedding.table", "model.embed_tokens", bias=False)
    for i in range(model.config.num_hidden_layers):
        ours, theirs = f"backbone.blocks.{i}", f"model.layers.{i}"
        own = f"{theirs}.self_attn"
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.input_layernorm", bias=False)
        table += layer(f"{ours}.mixer.qkv", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj", bias=bias)
        table += layer(f"{ours}.mixer.output", f"{own}.o_proj", bias=bias)
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.post_attention_layernorm", bias=False)
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.gate_proj", f"{theirs}.mlp.up_proj", bias=False)
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.down_proj", bias=False)
    table += layer("backbone.norm", "model.norm", bias=False)
    if model.lm_head.weight is not model.model.embed_tokens.weight:
        table += layer("head.project", "lm_head", bias=False)
    return table


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `LlamaForCausalLM` with our weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    ours = design_of(model)
    mixer = ours.get("backbone.blocks.0.mixer")
    scaling = ours.get("backbone.blocks.0.mixer.positions.llama3")
    rope = {"rope_type": "default", "rope_theta": ours.get("backbone.blocks.0.mixer.positions.base")}
    if scaling is not None:
        rope |= {"rope_type": "llama3", **dict(zip(SCALING, (*scaling[:3], int(scaling[3]))))}
    theirs: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ours.get("embedding.vocabulary"),
            hidden_size=ours.get("width"),
            intermediate_size=ours.get("backbone.blocks.0.feedforward.hidden"),
            num_hidden_layers=len(ours.get("backbone.blocks")),
            num_attention_heads=mixer.get("heads"),
            num_key_value_heads=mixer.get("key_heads"),
            head_dim=mixer.get("head_width"),
            rms_norm_eps=ours.get("backbone.norm.eps"),
            rope_parameters=rope,
            attention_bias=mixer.get("bias"),
            attention_dropout=mixer.get("dropout"),
            tie_word_embeddings=ours.get("head").part is TiedHead,
        )
    )
    return pour(model, theirs, design(theirs), pairs(theirs))
