"""Mamba-2 to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.heads import TiedHead
from everyformer.interop.names import only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.recurrent import mamba2


def design(model: Any) -> Design:
    """The design of a `Mamba2ForCausalLM`."""
    config = model.config
    only(config, hidden_act="silu", time_step_limit=(0.0, float("inf")))
    return mamba2(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        head_width=config.head_dim,
        expand=config.expand,
        state=config.state_size,
        groups=config.n_groups,
        kernel=config.conv_kernel,
        bias=config.use_bias,
        convolution_bias=config.use_conv_bias,
        tied=config.tie_word_embeddings,
        eps=config.layer_norm_epsilon,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    config = model.config
    table = layer("embedding.table", "backbone.embeddings", bias=False)
    for i in range(config.num_hidden_layers):
        ours, theirs = f"backbone.blocks.{i}.mixer", f"backbone.layers.{i}.mixer"
        table += layer(f"backbone.blocks.{i}.residual.0.norm", f"backbone.layers.{i}.norm", bias=False)
        table += layer(f"{ours}.project", f"{theirs}.in_proj", bias=config.use_bias)
        table += layer(f"{ours}.convolution", f"{theirs}.conv1d", bias=config.use_conv_bias)
        single = {"step_bias": "dt_bias", "rate": "A_log", "skip": "D", "scale": "norm.weight"}
        table += [Pair(f"{ours}.{name}", (f"{theirs}.{other}",)) for name, other in single.items()]
        table += layer(f"{ours}.output", f"{theirs}.out_proj", bias=config.use_bias)
    table += layer("backbone.norm", "backbone.norm_f", bias=False)
    return table if config.tie_word_embeddings else table + layer("head.project", "lm_head", bias=False)


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `Mamba2ForCausalLM` with our weights."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    ours = design_of(model)
    mixer, width = ours.get("backbone.blocks.0.mixer"), ours.get("width")
    theirs: Any = Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=ours.get("embedding.vocabulary"),
            hidden_size=width,
            num_hidden_layers=len(ours.get("backbone.blocks")),
            num_heads=mixer.get("heads"),
            head_dim=mixer.get("expand") * width // mixer.get("heads"),
            state_size=mixer.get("state"),
            expand=mixer.get("expand"),
            n_groups=mixer.get("groups"),
            conv_kernel=mixer.get("kernel"),
            use_bias=mixer.get("bias"),
            use_conv_bias=mixer.get("convolution_bias"),
            layer_norm_epsilon=mixer.get("eps"),
            tie_word_embeddings=ours.get("head").part is TiedHead,
        )
    )
    return pour(model, theirs, design(theirs), pairs(theirs))
