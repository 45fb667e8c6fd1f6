"""DistilBERT: a BERT of half the layers, without segments."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import ClassHead
from everyformer.interop.bert import BLOCK, EACH, LENGTH, begin_and_end, choices, each_token
from everyformer.interop.config import Always, Config, Depth, Key, Labels, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.specs import Spec, spec


def table(design: Design) -> list[Pair]:
    """The body."""
    ours, theirs = "backbone.blocks.*", "transformer.layer.*"
    return [
        *layer("embedding.table", "embeddings.word_embeddings", bias=False),
        *layer("embedding.positions.table", "embeddings.position_embeddings", bias=False),
        *layer("embedding.norm", "embeddings.LayerNorm"),
        *layer(f"{ours}.mixer.qkv", *(f"{theirs}.attention.{name}_lin" for name in "qkv")),
        *layer(f"{ours}.mixer.output", f"{theirs}.attention.out_lin"),
        *layer(f"{ours}.residual.0.norm", f"{theirs}.sa_layer_norm"),
        *layer(f"{ours}.feedforward.up", f"{theirs}.ffn.lin1"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.ffn.lin2"),
        *layer(f"{ours}.residual.1.norm", f"{theirs}.output_layer_norm"),
    ]


def classes(config: Config) -> Spec[ClassHead]:
    """A class read from the first token through a rectified layer."""
    return spec(ClassHead, classes=len(labels(config)), hidden=True, activation="relu")


register(
    Family(
        name="distilbert",
        system="bert",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("dim", "width", "width"),
            Depth("n_layers", "backbone.blocks"),
            Key("n_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("hidden_dim", f"{BLOCK}.feedforward.hidden", "hidden"),
            Key("activation", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
            Key("dropout", f"{BLOCK}.residual.dropout", "dropout", default=0.1),
            Key("attention_dropout", f"{BLOCK}.mixer.dropout", "attention_dropout", default=0.1),
            LENGTH,
            Always("segments", 0),
        ),
        table=table,
        prefix="distilbert",
        tops={
            "DistilBertModel": Top(head=lambda config: None, prefix=""),
            "DistilBertForMaskedLM": Top(
                table=(
                    *layer("head.transform.linear", "vocab_transform"),
                    *layer("head.transform.norm", "vocab_layer_norm"),
                    *layer("head.project", "vocab_projector"),
                )
            ),
            "DistilBertForSequenceClassification": Top(
                head=classes,
                settings=(
                    Labels("head.classes", "head.classes"),
                    Key("seq_classif_dropout", "head.dropout", default=0.2),
                ),
                table=(*layer("head.hidden", "pre_classifier"), *layer("head.classify", "classifier")),
            ),
            "DistilBertForTokenClassification": Top(
                head=each_token, settings=(EACH,), table=(*layer("head.project", "classifier"),)
            ),
            "DistilBertForMultipleChoice": choices(*layer("head.hidden", "pre_classifier"), activation="relu"),
            "DistilBertForQuestionAnswering": Top(head=begin_and_end, table=(*layer("head.project", "qa_outputs"),)),
        },
    )
)
