"""FNet to and from Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design, design_of
from everyformer.interop.names import activation, activation_of_theirs, only
from everyformer.interop.weights import Pair, fill, layer, pour, tensors
from everyformer.published.fnet import fnet


def design(model: Any) -> Design:
    """The design of a `FNetForMaskedLM` or a `FNetForSequenceClassification`."""
    config = model.config
    only(config, use_tpu_fourier_optimizations=False)
    return fnet(
        vocabulary=config.vocab_size,
        classes=config.num_labels if hasattr(model, "classifier") else None,
        length=config.max_position_embeddings,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        depth=config.num_hidden_layers,
        segments=config.type_vocab_size,
        activation=activation(config.hidden_act),
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    table = layer("embedding.table", "fnet.embeddings.word_embeddings", bias=False)
    table += layer("embedding.positions.table", "fnet.embeddings.position_embeddings", bias=False)
    table += layer("embedding.segments", "fnet.embeddings.token_type_embeddings", bias=False)
    table += layer("embedding.norm", "fnet.embeddings.LayerNorm")
    table += layer("backbone.blocks.0.linear", "fnet.embeddings.projection")
    for i in range(model.config.num_hidden_layers):
        ours, theirs = f"backbone.blocks.{i + 1}", f"fnet.encoder.layer.{i}"
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.fourier.output.LayerNorm")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.output.dense")
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.output.LayerNorm")
    if hasattr(model, "classifier"):
        return table + layer("head.hidden", "fnet.pooler.dense") + layer("head.classify", "classifier")
    table += layer("head.transform.linear", "cls.predictions.transform.dense")
    table += layer("head.transform.norm", "cls.predictions.transform.LayerNorm")
    return [*table, Pair("head.project.bias", ("cls.predictions.bias",))]


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    unused = () if hasattr(model, "classifier") else ("fnet.pooler.dense.weight", "fnet.pooler.dense.bias")
    fill(made, pairs(model), {name: tensor for name, tensor in tensors(model).items() if name not in unused})
    return made.train(model.training)


def to_transformers(model: Any) -> Any:
    """A `FNetForMaskedLM` or, with classes, a `FNetForSequenceClassification` with our weights."""
    from transformers import FNetConfig, FNetForMaskedLM, FNetForSequenceClassification

    ours = design_of(model)
    blocks = ours.get("backbone.blocks")
    shape = {
        "vocab_size": ours.get("embedding.vocabulary"),
        "hidden_size": ours.get("width"),
        "num_hidden_layers": len(blocks) - 1,
        "intermediate_size": blocks[1].get("feedforward").get("hidden"),
        "hidden_act": activation_of_theirs(blocks[1].get("feedforward").get("activation")),
        "hidden_dropout_prob": ours.get("embedding.dropout"),
        "max_position_embeddings": ours.get("embedding.positions.length"),
        "type_vocab_size": ours.get("embedding.segments"),
        "layer_norm_eps": ours.get("embedding.norm.eps"),
    }
    if "classes" in ours.get("head").options:
        shape["num_labels"] = ours.get("head.classes")
        theirs: Any = FNetForSequenceClassification(FNetConfig(**shape))
    else:
        theirs = FNetForMaskedLM(FNetConfig(**shape))
    return pour(model, theirs, design(theirs), pairs(theirs))
