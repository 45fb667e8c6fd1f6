"""RoBERTa: a BERT whose table of positions begins at its third row."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.bert import (
    BLOCKS,
    DROPOUT,
    POOLER,
    SEGMENTS,
    SETTINGS,
    SPANS,
    TAGS,
    choices,
    embeddings,
    pooled,
    pooler,
    writes,
)
from everyformer.interop.config import Always, Config, Custom, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following
from everyformer.interop.weights import Pair, layer

SKIPPED = 2
"""Rows of the table of positions that no real token has: fairseq counts on from the id of padding, 1."""


def length(config: Config) -> dict[str, Any]:
    """The places that a token can have."""
    return {"length": config.value("max_position_embeddings") - SKIPPED}


def write_length(design: Design) -> dict[str, Any]:
    """The rows of their table."""
    return {"max_position_embeddings": design.get("embedding.positions.length") + SKIPPED}


POSITIONS = Pair("embedding.positions.table.weight", ("embeddings.position_embeddings.weight",), Following(SKIPPED))
MASKED = Top(
    settings=(Always("head.transform.activation", "gelu"),),
    table=(
        *layer("head.transform.linear", "lm_head.dense"),
        *layer("head.transform.norm", "lm_head.layer_norm"),
        Pair("head.project.bias", ("lm_head.bias",)),
        *layer("head.project", "lm_head.decoder"),
    ),
    unused=POOLER,
)
"""Guesses masked words, by GELU whatever the body has."""
CLASSIFIER = (*layer("head.hidden", "classifier.dense"), *layer("head.classify", "classifier.out_proj"))
"""Two layers that classify a text by its first token."""


def table(design: Design) -> list[Pair]:
    """The body."""
    return [*embeddings(), POSITIONS, *BLOCKS]


FAMILY = register(
    Family(
        name="roberta",
        system="bert",
        settings=(*SETTINGS, Custom(length, write_length), SEGMENTS),
        table=table,
        prefix="roberta",
        only={
            "is_decoder": False,
            "add_cross_attention": False,
            "position_embedding_type": "absolute",
            "pad_token_id": 1,
        },
        tops={
            "RobertaModel": Top(head=pooled, prefix="", table=pooler("roberta")),
            "RobertaForMaskedLM": MASKED,
            "RobertaForSequenceClassification": Top(
                settings=(Labels("head.classes"), DROPOUT), table=CLASSIFIER, unused=POOLER
            ),
            "RobertaForTokenClassification": TAGS,
            "RobertaForQuestionAnswering": SPANS,
            "RobertaForMultipleChoice": choices(*layer("head.hidden", "roberta.pooler.dense")),
        },
    )
)
register(writes(FAMILY, "RobertaForCausalLM", "RobertaForMaskedLM"))
