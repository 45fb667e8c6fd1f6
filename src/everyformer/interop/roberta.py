"""RoBERTa: a BERT whose table of positions begins at its third row."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.bert import (
    BLOCKS,
    DROPOUT,
    EACH,
    SEGMENTS,
    SETTINGS,
    begin_and_end,
    each_token,
    embeddings,
    pooled,
)
from everyformer.interop.config import Config, Custom, Labels
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


def table(design: Design) -> list[Pair]:
    """The body."""
    positions = Pair("embedding.positions.table.weight", ("embeddings.position_embeddings.weight",), Following(SKIPPED))
    return [*embeddings(), positions, *BLOCKS]


register(
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
            "RobertaModel": Top(
                head=pooled,
                prefix="",
                table=(*layer("head.hidden", "pooler.dense"), *layer("head.hidden", "roberta.pooler.dense")),
            ),
            "RobertaForMaskedLM": Top(
                table=(
                    *layer("head.transform.linear", "lm_head.dense"),
                    *layer("head.transform.norm", "lm_head.layer_norm"),
                    Pair("head.project.bias", ("lm_head.bias",)),
                    *layer("head.project", "lm_head.decoder"),
                ),
                unused=("*pooler.*",),
            ),
            "RobertaForSequenceClassification": Top(
                settings=(Labels("head.classes"), DROPOUT),
                table=(*layer("head.hidden", "classifier.dense"), *layer("head.classify", "classifier.out_proj")),
                unused=("*pooler.*",),
            ),
            "RobertaForTokenClassification": Top(
                head=each_token, settings=(EACH,), table=(*layer("head.project", "classifier"),), unused=("*pooler.*",)
            ),
            "RobertaForQuestionAnswering": Top(
                head=begin_and_end, table=(*layer("head.project", "qa_outputs"),), unused=("*pooler.*",)
            ),
        },
    )
)
