"""ELECTRA: a BERT, whose table may be narrower, and the classes of its two halves."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.heads import ClassHead, TokenHead, Transform
from everyformer.interop import bert, roberta
from everyformer.interop.config import Always, Config, Custom, Key, Labels, Only, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.norms import Identity
from everyformer.specs import Spec, spec


def table_width(config: Config) -> dict[str, Any]:
    """The width of the table, where it is another than that of the body."""
    width = config.value("embedding_size", 128)
    return {"table_width": None if width == config.value("hidden_size") else width}


def write_table_width(design: Design) -> dict[str, Any]:
    """The same."""
    return {"embedding_size": design.get("embedding.table_width") or design.get("width")}


def replaced(config: Config) -> Spec[TokenHead]:
    """For every token how likely it was replaced."""
    transform = spec(Transform, norm=spec(Identity), activation=ACTIVATIONS[config.get("hidden_act", "gelu")])
    return spec(TokenHead, vocabulary=1, bias=True, transform=transform)


def classes(config: Config) -> Spec[ClassHead]:
    """A class read from the first token through a hidden layer."""
    return spec(ClassHead, classes=len(labels(config)), hidden=True, activation="gelu")


HEAD_DROPOUT = Key("classifier_dropout", "head.dropout")


def head_dropout(config: Config) -> dict[str, Any]:
    """That of the body where nothing else is said."""
    said = config.get("classifier_dropout")
    return {"head.dropout": config.get("hidden_dropout_prob", 0.1) if said is None else said}


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *bert.embeddings(),
        *bert.POSITIONS,
        *bert.BLOCKS,
        *layer("embedding.project", "embeddings_project"),
    ]


FAMILY = register(
    Family(
        name="electra",
        system="bert",
        settings=(
            *bert.SETTINGS,
            bert.LENGTH,
            bert.SEGMENTS,
            Custom(table_width, write_table_width),
        ),
        table=table,
        prefix="electra",
        only={"is_decoder": False, "add_cross_attention": False},
        tops={
            "ElectraForPreTraining": Top(
                head=replaced,
                table=(
                    *layer("head.transform.linear", "discriminator_predictions.dense"),
                    *layer("head.project", "discriminator_predictions.dense_prediction"),
                ),
            ),
            "ElectraModel": Top(head=lambda config: None, prefix=""),
            "ElectraForMaskedLM": Top(
                settings=(Always("head.transform.activation", "gelu"),),
                table=(
                    *layer("head.transform.linear", "generator_predictions.dense"),
                    *layer("head.transform.norm", "generator_predictions.LayerNorm"),
                    *layer("head.project", "generator_lm_head"),
                ),
            ),
            "ElectraForSequenceClassification": Top(
                head=classes,
                settings=(Labels("head.classes", "head.classes"), Custom(head_dropout, HEAD_DROPOUT.write)),
                table=roberta.CLASSIFIER,
            ),
            "ElectraForTokenClassification": bert.TAGS,
            "ElectraForQuestionAnswering": bert.SPANS,
            "ElectraForMultipleChoice": bert.choices(
                *layer("head.hidden", "sequence_summary.summary"),
                activation="gelu",
                settings=(Only(summary_type="first", summary_use_proj=True, summary_activation="gelu"),),
            ),
        },
    )
)
register(bert.writes(FAMILY, "ElectraForCausalLM", "ElectraForMaskedLM"))
