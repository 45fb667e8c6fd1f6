"""RWKV-4 to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.interop.names import only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.rwkv import rwkv


def design(model: Any) -> Design:
    """The design of a `RwkvForCausalLM`."""
    config = model.config
    only(config, tie_word_embeddings=False)
    return rwkv(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        inner=config.attention_hidden_size,
        depth=config.num_hidden_layers,
        eps=config.layer_norm_epsilon,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    table = layer("embedding.table", "rwkv.embeddings", bias=False)
    table += layer("embedding.norm", "rwkv.blocks.0.pre_ln")
    for i in range(model.config.num_hidden_layers):
        time, channel = f"backbone.blocks.{2 * i}", f"backbone.blocks.{2 * i + 1}"
        block = f"rwkv.blocks.{i}"
        for ours, theirs, norm, mixtures, maps in (
            (time, "attention", "ln1", ("key", "value", "receptance"), ("key", "value", "receptance", "output")),
            (channel, "feed_forward", "ln2", ("key", "receptance"), ("key", "receptance", "value")),
        ):
            table += layer(f"{ours}.residual.0.norm", f"{block}.{norm}")
            shifts = tuple(f"{block}.{theirs}.time_mix_{name}" for name in mixtures)
            table.append(Pair(f"{ours}.mixer.mixtures", shifts))
            for name in maps:
                table += layer(f"{ours}.mixer.{name}", f"{block}.{theirs}.{name}", bias=False)
        table.append(Pair(f"{time}.mixer.decay", (f"{block}.attention.time_decay",)))
        table.append(Pair(f"{time}.mixer.bonus", (f"{block}.attention.time_first",)))
    return table + layer("backbone.norm", "rwkv.ln_out") + layer("head.project", "head", bias=False)


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs, which must not have been rescaled: `rescale_every=0`, or not yet used."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `RwkvForCausalLM` with our weights."""
    from transformers import RwkvConfig, RwkvForCausalLM

    ours = design_of(model)
    time, channel = (block.get("mixer") for block in ours.get("backbone.blocks")[:2])
    theirs: Any = RwkvForCausalLM(
        RwkvConfig(
            vocab_size=ours.get("embedding.vocabulary"),
            hidden_size=ours.get("width"),
            num_hidden_layers=time.get("layers"),
            attention_hidden_size=time.get("hidden"),
            intermediate_size=channel.get("hidden"),
            layer_norm_epsilon=ours.get("embedding.norm.eps"),
            rescale_every=0,
        )
    )
    return pour(model, theirs, design(theirs), pairs(theirs))
