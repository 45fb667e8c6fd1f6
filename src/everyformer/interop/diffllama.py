"""The Differential Transformer from Hugging Face transformers, which calls it DiffLlama."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop import llama
from everyformer.interop.names import only
from everyformer.interop.weights import Pair, fill, tensors
from everyformer.published.differential import differential_transformer


def design(model: Any) -> Design:
    """The design of a `DiffLlamaForCausalLM`."""
    config = model.config
    only(config, hidden_act="silu")
    return differential_transformer(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_width=config.head_dim,
        base=config.rope_parameters["rope_theta"],
        bias=config.attention_bias,
        tied=model.lm_head.weight is model.model.embed_tokens.weight,
        eps=config.rms_norm_eps,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs: LLaMA's, and the four vectors of each layer."""
    table = llama.pairs(model)
    for i in range(model.config.num_hidden_layers):
        own = f"model.layers.{i}.self_attn.lambda_"
        table.append(
            Pair(f"backbone.blocks.{i}.mixer.vectors", tuple(f"{own}{name}" for name in ("q1", "k1", "q2", "k2")))
        )
    return table


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)
