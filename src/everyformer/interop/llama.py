"""Llama to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.llama import llama


def design(model: Any) -> Design:
    """The design of a `LlamaForCausalLM`."""
    config = model.config
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise DoesNotFit(f"rope_type '{kind}'; the llama system has 'default' and 'llama3'", "positions")
    scaling = None
    if kind == "llama3":
        named = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        scaling = tuple(float(rope[name]) for name in named)
    return llama(
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
