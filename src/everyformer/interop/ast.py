"""AST from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import blocks_of, split_positions
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.ast import ast

LEADING = [f"audio_spectrogram_transformer.embeddings.{name}_token" for name in ("cls", "distillation")]
POSITIONS = "audio_spectrogram_transformer.embeddings.position_embeddings"


def design(model: Any) -> Design:
    """The design of an `ASTForAudioClassification`."""
    config = model.config
    if config.frequency_stride != config.time_stride:
        raise BadInput(
            f"expected one stride for frequency and time; given frequency_stride={config.frequency_stride}, "
            f"time_stride={config.time_stride}; give a model whose two strides are equal"
        )
    made = ast(
        classes=config.num_labels,
        mels=config.num_mel_bins,
        frames=config.max_length,
        patch=config.patch_size,
        stride=config.time_stride,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ratio=config.intermediate_size / config.hidden_size,
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
    )
    blocks = "backbone.blocks.*"
    made = made.set(f"{blocks}.feedforward.activation", ACTIVATIONS[config.hidden_act])
    made = made.set(f"{blocks}.mixer.dropout", config.attention_probs_dropout_prob)
    return made.set(f"{blocks}.mixer.bias", config.qkv_bias).set(f"{blocks}.mixer.output_bias", True)


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    body = "audio_spectrogram_transformer"
    table = [Pair("embedding.first", ("first",)), Pair("embedding.positions.table", ("grid",))]
    table += layer("embedding.project", f"{body}.embeddings.patch_embeddings.projection")
    table += blocks_of(f"{body}.layers", model.config.num_hidden_layers, model.config.qkv_bias)
    table += layer("backbone.norm", f"{body}.layernorm")
    return table + layer("head.norm", "classifier.layernorm") + layer("head.classify", "classifier.dense")


def from_transformers(model: Any) -> Any:
    """Our model with the weights of an `ASTForAudioClassification`; a tensor unused or unfilled is an error."""
    made = design(model).build()
    fill(made, pairs(model), split_positions(tensors(model), LEADING, POSITIONS))
    return made.train(model.training)
