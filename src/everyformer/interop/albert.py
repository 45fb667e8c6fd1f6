"""ALBERT."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.bert import CHOICES, LENGTH, SPANS, TAGS, embeddings, pooled, pretrained
from everyformer.interop.config import Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

BLOCK = "backbone.blocks.*.blocks.*"
FIRST = "backbone.blocks.0.blocks.0"
LAYER = "encoder.albert_layer_groups.*.albert_layers.*"


def shape(config: Config) -> dict[str, Any]:
    """How often layers run, and how many have weights of their own."""
    return {
        "depth": config.value("num_hidden_layers"),
        "groups": config.value("num_hidden_groups", 1),
        "inner": config.value("inner_group_num", 1),
    }


def write_shape(design: Design) -> dict[str, Any]:
    """The same, from the loops."""
    groups = design.get("backbone.blocks")
    return {
        "num_hidden_layers": len(groups) * groups[0].get("times"),
        "num_hidden_groups": len(groups),
        "inner_group_num": len(groups[0].get("blocks")),
    }


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *embeddings(),
        *layer("embedding.positions.table", "embeddings.position_embeddings", bias=False),
        *layer("embedding.project", "encoder.embedding_hidden_mapping_in"),
        *layer(f"{BLOCK}.mixer.qkv", *(f"{LAYER}.attention.{name}" for name in ("query", "key", "value"))),
        *layer(f"{BLOCK}.mixer.output", f"{LAYER}.attention.dense"),
        *layer(f"{BLOCK}.residual.0.norm", f"{LAYER}.attention.LayerNorm"),
        *layer(f"{BLOCK}.feedforward.up", f"{LAYER}.ffn"),
        *layer(f"{BLOCK}.feedforward.down", f"{LAYER}.ffn_output"),
        *layer(f"{BLOCK}.residual.1.norm", f"{LAYER}.full_layer_layer_norm"),
        *layer("head.hidden", "pooler"),
    ]


MASKED = (
    *layer("head.transform.linear", "predictions.dense"),
    *layer("head.transform.norm", "predictions.LayerNorm"),
    Pair("head.project.bias", ("predictions.bias",)),
    *layer("head.project", "predictions.decoder"),
)

register(
    Family(
        name="albert",
        system="albert",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("embedding_size", "embedding.table_width", "table_width"),
            Key("hidden_size", "width", "width"),
            Custom(shape, write_shape),
            Key("num_attention_heads", f"{FIRST}.mixer.heads", "heads"),
            Key("intermediate_size", f"{FIRST}.feedforward.hidden", "hidden"),
            Key("hidden_act", f"{FIRST}.feedforward.activation", "activation", ACTIVATIONS, "gelu_new"),
            Key("hidden_dropout_prob", f"{FIRST}.residual.dropout", "dropout", default=0.0),
            Key("attention_probs_dropout_prob", f"{FIRST}.mixer.dropout", "attention_dropout", default=0.0),
            Key("layer_norm_eps", "embedding.norm.eps", "eps", default=1e-12),
            Key("type_vocab_size", "embedding.segments", "segments", default=2),
            LENGTH,
        ),
        table=table,
        prefix="albert",
        tops={
            "AlbertModel": Top(head=pooled, prefix=""),
            "AlbertForMaskedLM": Top(table=MASKED, unused=("*pooler.*", "sop_classifier.*")),
            "AlbertForPreTraining": pretrained(
                "AlbertForMaskedLM", "albert.pooler", MASKED, "sop_classifier.classifier"
            ),
            "AlbertForTokenClassification": TAGS,
            "AlbertForQuestionAnswering": SPANS,
            "AlbertForMultipleChoice": CHOICES,
            "AlbertForSequenceClassification": Top(
                settings=(
                    Labels("head.classes"),
                    Key("classifier_dropout_prob", "head.dropout", "head_dropout", default=0.1),
                ),
                table=(*layer("head.classify", "classifier"),),
            ),
        },
    )
)
