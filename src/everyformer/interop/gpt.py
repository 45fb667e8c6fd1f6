"""GPT-2 to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.gpt import gpt


def design(model: Any) -> Design:
    """The design of a `GPT2LMHeadModel`."""
    config = model.config
    return gpt(
        vocabulary=config.vocab_size,
        length=config.n_positions,
        width=config.n_embd,
        depth=config.n_layer,
        heads=config.n_head,
        dropout=config.resid_pdrop,
    )


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
