"""BERT to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.bert import bert


def design(model: Any) -> Design:
    """The design of a `BertForMaskedLM` or a `BertForSequenceClassification`."""
    config = model.config
    return bert(
        vocabulary=config.vocab_size,
        classes=config.num_labels if hasattr(model, "classifier") else None,
        length=config.max_position_embeddings,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        segments=config.type_vocab_size,
        activation=ACTIVATIONS[config.hidden_act],
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        head_dropout=config.classifier_dropout,
        eps=config.layer_norm_eps,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    table = layer("embedding.table", "bert.embeddings.word_embeddings", bias=False)
    table += layer("embedding.positions.table", "bert.embeddings.position_embeddings", bias=False)
    table += layer("embedding.segments", "bert.embeddings.token_type_embeddings", bias=False)
    table += layer("embedding.norm", "bert.embeddings.LayerNorm")
    for i in range(model.config.num_hidden_layers):
        ours, theirs = f"backbone.blocks.{i}", f"bert.encoder.layer.{i}"
        own = f"{theirs}.attention.self"
        table += layer(f"{ours}.mixer.qkv", f"{own}.query", f"{own}.key", f"{own}.value")
        table += layer(f"{ours}.mixer.output", f"{theirs}.attention.output.dense")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.attention.output.LayerNorm")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.output.dense")
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.output.LayerNorm")
    if hasattr(model, "classifier"):
        return table + layer("head.hidden", "bert.pooler.dense") + layer("head.classify", "classifier")
    table += layer("head.transform.linear", "cls.predictions.transform.dense")
    table += layer("head.transform.norm", "cls.predictions.transform.LayerNorm")
    return [*table, Pair("head.project.bias", ("cls.predictions.bias",))]


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    fill(made, pairs(model), tensors(model))
    return made.train(model.training)
