"""FNet."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.bert import (
    CHOICES,
    FOLLOWS,
    LENGTH,
    MASKED,
    SPANS,
    TAGS,
    embeddings,
    pooled,
    pretrained,
)
from everyformer.interop.config import Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

BLOCK = "backbone.blocks.1"


def depth(config: Config) -> dict[str, Any]:
    """How many layers, after the map of the embedding."""
    return {"depth": config.value("num_hidden_layers")}


def write_depth(design: Design) -> dict[str, Any]:
    """The same, counted."""
    return {"num_hidden_layers": len(design.get("backbone.blocks")) - 1}


def table(design: Design) -> list[Pair]:
    """The body: the map after the embedding is the first block of ours."""
    found = [
        *embeddings(),
        *layer("embedding.positions.table", "embeddings.position_embeddings", bias=False),
        *layer("backbone.blocks.0.linear", "embeddings.projection"),
        *layer("head.hidden", "pooler.dense"),
    ]
    for i in range(len(design.get("backbone.blocks")) - 1):
        ours, theirs = f"backbone.blocks.{i + 1}", f"encoder.layer.{i}"
        found += layer(f"{ours}.residual.0.norm", f"{theirs}.fourier.output.LayerNorm")
        found += layer(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        found += layer(f"{ours}.feedforward.down", f"{theirs}.output.dense")
        found += layer(f"{ours}.residual.1.norm", f"{theirs}.output.LayerNorm")
    return found


register(
    Family(
        name="fnet",
        system="fnet",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
            Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "gelu_new"),
            Key("hidden_dropout_prob", f"{BLOCK}.residual.dropout", "dropout", default=0.1),
            Key("layer_norm_eps", "embedding.norm.eps", "eps", default=1e-12),
            Key("type_vocab_size", "embedding.segments", "segments", default=4),
            LENGTH,
            Custom(depth, write_depth),
        ),
        table=table,
        prefix="fnet",
        only={"use_tpu_fourier_optimizations": False},
        tops={
            "FNetModel": Top(head=pooled, prefix=""),
            "FNetForMaskedLM": MASKED,
            "FNetForNextSentencePrediction": FOLLOWS,
            "FNetForPreTraining": pretrained("FNetForMaskedLM", "fnet.pooler.dense"),
            "FNetForSequenceClassification": Top(
                settings=(Labels("head.classes"),), table=(*layer("head.classify", "classifier"),)
            ),
            "FNetForTokenClassification": TAGS,
            "FNetForQuestionAnswering": SPANS,
            "FNetForMultipleChoice": CHOICES,
        },
    )
)
