"""BERT to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.heads import ClassHead
from everyformer.interop.names import activation, activation_of_theirs, only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.bert import bert


def design(model: Any) -> Design:
    """The design of a `BertForMaskedLM` or a `BertForSequenceClassification`."""
    config = model.config
    only(config, is_decoder=False, add_cross_attention=False)
    return bert(
        vocabulary=config.vocab_size,
        classes=config.num_labels if hasattr(model, "classifier") else None,
        length=config.max_position_embeddings,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        segments=config.type_vocab_size,
        activation=activation(config.hidden_act),
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


def to_transformers(model: Any) -> Any:
    """A `BertForSequenceClassification`, or a `BertForMaskedLM` where our model has no classes, with our weights."""
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    ours = design_of(model)
    shape = {
        "vocab_size": ours.get("embedding.vocabulary"),
        "hidden_size": ours.get("width"),
        "num_hidden_layers": len(ours.get("backbone.blocks")),
        "num_attention_heads": ours.get("backbone.blocks.0.mixer.heads"),
        "intermediate_size": ours.get("backbone.blocks.0.feedforward.hidden"),
        "hidden_act": activation_of_theirs(ours.get("backbone.blocks.0.feedforward.activation")),
        "hidden_dropout_prob": ours.get("backbone.blocks.0.residual.dropout"),
        "attention_probs_dropout_prob": ours.get("backbone.blocks.0.mixer.dropout"),
        "max_position_embeddings": ours.get("embedding.positions.length"),
        "type_vocab_size": ours.get("embedding.segments"),
        "layer_norm_eps": ours.get("embedding.norm.eps"),
    }
    if ours.get("head").part is ClassHead:
        more = {"num_labels": ours.get("head.classes"), "classifier_dropout": ours.get("head.dropout")}
        theirs: Any = BertForSequenceClassification(BertConfig(**shape, **more))
    else:
        theirs = BertForMaskedLM(BertConfig(**shape))
    return pour(model, theirs, design(theirs), pairs(theirs))
