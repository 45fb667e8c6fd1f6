"""T5 to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from torch import nn

from everyformer.designs import Design, design_of
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead
from everyformer.interop.names import activation, activation_of_theirs
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.t5 import t5


def design(model: Any) -> Design:
    """The design of a `T5ForConditionalGeneration`."""
    config = model.config
    return t5(
        vocabulary=config.vocab_size,
        width=config.d_model,
        hidden=config.d_ff,
        depth=config.num_layers,
        decoder_depth=config.num_decoder_layers,
        heads=config.num_heads,
        head_width=config.d_kv,
        buckets=config.relative_attention_num_buckets,
        farthest=config.relative_attention_max_distance,
        activation=activation(config.dense_act_fn),
        gated=config.is_gated_act,
        tied=_tied(model),
        dropout=config.dropout_rate,
        eps=config.layer_norm_epsilon,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    config = model.config
    table = layer("source.table", "shared", bias=False)
    for stack, depth in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers)):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        table += layer(f"{stack}.positions.table", bias, bias=False)
        for i in range(depth):
            table += _block(f"{stack}.blocks.{i}", f"{stack}.block.{i}.layer", stack == "decoder", config.is_gated_act)
        table += layer(f"{stack}.norm", f"{stack}.final_layer_norm", bias=False)
    return table if _tied(model) else table + layer("head.project", "lm_head", bias=False)


def _block(ours: str, theirs: str, crosses: bool, gated: bool) -> list[Pair]:
    own, cross, last = f"{theirs}.0.SelfAttention", f"{theirs}.1.EncDecAttention", 2 if crosses else 1
    table = layer(f"{ours}.mixer.qkv", f"{own}.q", f"{own}.k", f"{own}.v", bias=False)
    table += layer(f"{ours}.mixer.output", f"{own}.o", bias=False)
    if crosses:
        table += layer(f"{ours}.cross.0.query", f"{cross}.q", bias=False)
        table += layer(f"{ours}.cross.0.key_value", f"{cross}.k", f"{cross}.v", bias=False)
        table += layer(f"{ours}.cross.0.output", f"{cross}.o", bias=False)
    dense = f"{theirs}.{last}.DenseReluDense"
    up = (f"{dense}.wi_0", f"{dense}.wi_1") if gated else (f"{dense}.wi",)
    table += layer(f"{ours}.feedforward.up", *up, bias=False)
    table += layer(f"{ours}.feedforward.down", f"{dense}.wo", bias=False)
    for i in range(last + 1):
        table += layer(f"{ours}.residual.{i}.norm", f"{theirs}.{i}.layer_norm", bias=False)
    return table


def _tied(model: Any) -> bool:
    return model.lm_head.weight is model.shared.weight


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `T5ForConditionalGeneration` with our weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    ours = design_of(model)
    mixer, feedforward = ours.get("encoder.blocks.0.mixer"), ours.get("encoder.blocks.0.feedforward")
    tied = ours.get("head").part is TiedHead
    act = activation_of_theirs(feedforward.get("activation"))
    if feedforward.part is Gated:
        act = "gated-gelu" if act == "gelu_new" else f"gated-{act}"
    config: Any = T5Config
    theirs: Any = T5ForConditionalGeneration(
        config(
            vocab_size=ours.get("source.vocabulary"),
            d_model=ours.get("width"),
            d_kv=mixer.get("head_width"),
            d_ff=feedforward.get("hidden"),
            num_layers=len(ours.get("encoder.blocks")),
            num_decoder_layers=len(ours.get("decoder.blocks")),
            num_heads=mixer.get("heads"),
            relative_attention_num_buckets=ours.get("encoder.positions.buckets"),
            relative_attention_max_distance=ours.get("encoder.positions.farthest"),
            feed_forward_proj=act,
            dropout_rate=mixer.get("dropout"),
            layer_norm_epsilon=ours.get("encoder.norm.eps"),
            tie_word_embeddings=tied,
        )
    )
    if not tied:
        theirs.lm_head.weight = nn.Parameter(theirs.lm_head.weight.detach().clone())
    return pour(model, theirs, design(theirs), pairs(theirs))
