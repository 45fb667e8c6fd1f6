"""Longformer, BigBird, Nystroemformer, YOSO and MRA: BERT's tables with another attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.feedforward import MLP
from everyformer.heads import Refined, TokenHead
from everyformer.interop import roberta
from everyformer.interop.alternating import Windows
from everyformer.interop.bert import (
    ATTENTION_DROPOUT,
    BLOCK,
    BLOCKS,
    DROPOUT,
    LENGTH,
    MASKED,
    POOLER,
    POSITIONS,
    SEGMENTS,
    SPANS,
    TAGS,
    choices,
    embeddings,
    pooled,
    pooler,
    pretrained,
    sizes,
    writes,
)
from everyformer.interop.config import Always, Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.mixers import SampledBernoulliAttention
from everyformer.norms import LayerNorm
from everyformer.specs import Spec, spec

BARE = Top(head=lambda config: None, prefix="")
CLASSES = Top(
    settings=(Labels("head.classes"), Key("hidden_act", "head.activation", None, ACTIVATIONS)),
    table=roberta.CLASSIFIER,
    unused=POOLER,
)
"""Classifies a text by its first token, through the activation of the body."""
RECTIFIED = choices(*layer("head.hidden", "pre_classifier"), activation="relu")
"""Scores a text as one of several answers through a layer of its own."""


def longformer_table(design: Design) -> list[Pair]:
    """RoBERTa's, and the maps of marked tokens."""
    own = (f"encoder.layer.*.attention.self.{name}_global" for name in ("query", "key", "value"))
    return [*roberta.table(design), *layer("backbone.blocks.*.mixer.marked_qkv", *own)]


register(
    Family(
        name="longformer",
        system="longformer",
        settings=(
            *sizes(),
            ATTENTION_DROPOUT,
            Custom(roberta.length, roberta.write_length),
            SEGMENTS,
            Windows("backbone.blocks"),
            Always("leading", 0),
        ),
        table=longformer_table,
        prefix="longformer",
        only={"pad_token_id": 1},
        tops={
            "LongformerModel": Top(head=pooled, prefix="", table=pooler("longformer")),
            "LongformerForMaskedLM": roberta.MASKED,
            "LongformerForSequenceClassification": Top(
                settings=(Labels("head.classes"), Always("leading", 1)), table=roberta.CLASSIFIER, unused=POOLER
            ),
            "LongformerForTokenClassification": TAGS,
            "LongformerForQuestionAnswering": SPANS,
            "LongformerForMultipleChoice": choices(*layer("head.hidden", "longformer.pooler.dense")),
        },
    )
)


def blocks(config: Config) -> dict[str, Any]:
    """Blocks and how many are drawn; one block for a whole text is full attention."""
    full = config.get("attention_type") == "original_full"
    block = config.value("max_position_embeddings") if full else config.value("block_size", 64)
    return {"block": block, "random": config.value("num_random_blocks", 3)}


def write_blocks(design: Design) -> dict[str, Any]:
    """The same keys."""
    mixer = design.get(f"{BLOCK}.mixer")
    kind = "original_full" if mixer.get("block") == design.get(LENGTH.at) else "block_sparse"
    return {"attention_type": kind, "block_size": mixer.get("block"), "num_random_blocks": mixer.get("random")}


def refined(config: Config) -> Spec[TokenHead]:
    """For every token how likely an answer begins and ends there, through one more layer like those of the body.

    Theirs then takes a million from the tokens of the question, where it knows those; here an answer is for the reader to
    look for behind the question.
    """
    activation = ACTIVATIONS[config.value("hidden_act", "gelu_new")]
    mlp = spec(MLP, hidden=config.value("intermediate_size"), activation=activation)
    norm = spec(LayerNorm, eps=config.value("layer_norm_eps", 1e-12))
    return spec(TokenHead, vocabulary=2, bias=True, transform=spec(Refined, feedforward=mlp, norm=norm))


REFINED = (
    *layer("head.transform.feedforward.up", "qa_classifier.intermediate.dense"),
    *layer("head.transform.feedforward.down", "qa_classifier.output.dense"),
    *layer("head.transform.norm", "qa_classifier.output.LayerNorm"),
    *layer("head.project", "qa_classifier.qa_outputs"),
)

PLAIN = (*sizes("gelu_new"), ATTENTION_DROPOUT, LENGTH, SEGMENTS)
"""What its configs say that a BERT's say too."""
BIGBIRD = register(
    Family(
        name="big_bird",  # in evaluation theirs looks at the first block for every random one; ours draws blocks
        system="bigbird",
        settings=(*PLAIN, Custom(blocks, write_blocks)),
        table=lambda design: [*embeddings(), *POSITIONS, *BLOCKS],
        prefix="bert",
        only={"is_decoder": False, "add_cross_attention": False, "rescale_embeddings": False, "use_bias": True},
        tops={
            "BigBirdModel": Top(head=pooled, prefix="", table=pooler("bert", "pooler")),
            "BigBirdForMaskedLM": MASKED,
            "BigBirdForSequenceClassification": Top(
                settings=(*CLASSES.settings, DROPOUT), table=CLASSES.table, unused=POOLER
            ),
            "BigBirdForTokenClassification": TAGS,
            "BigBirdForPreTraining": pretrained("BigBirdForMaskedLM", "bert.pooler"),
            "BigBirdForQuestionAnswering": Top(head=refined, table=REFINED),
            "BigBirdForMultipleChoice": choices(*layer("head.hidden", "bert.pooler")),
        },
    )
)
FULL = replace(BIGBIRD, system="bert", settings=PLAIN, only={**BIGBIRD.only, "attention_type": "original_full"})
"""The one of full attention: a BERT. Theirs has no causal blocks, so that this is all that it writes with."""
register(writes(FULL, "BigBirdForCausalLM", "BigBirdForMaskedLM"))


def landmarks(config: Config) -> dict[str, Any]:
    """Landmarks; as many as theirs expects tokens is full attention, for texts of any length."""
    count = config.value("num_landmarks", 64)
    full = count == config.value("segment_means_seq_len", 64)
    return {"landmarks": config.value("max_position_embeddings") if full else count}


def write_landmarks(design: Design) -> dict[str, Any]:
    """The same keys; theirs answers for texts of one length only, the longest."""
    return {
        "num_landmarks": design.get(f"{BLOCK}.mixer.landmarks"),
        "segment_means_seq_len": design.get(LENGTH.at),
    }


def shifted(design: Design) -> list[Pair]:
    """A body whose positions begin as RoBERTa's do, with a convolution of the values where it has one."""
    convolution = layer("backbone.blocks.*.mixer.conv", "encoder.layer.*.attention.self.conv", bias=False)
    return [*embeddings(), roberta.POSITIONS, *BLOCKS, *convolution]


def tops(name: str) -> dict[str, Top]:
    """The classes of those whose body is `shifted`."""
    return {
        f"{name}Model": BARE,
        f"{name}ForMaskedLM": MASKED,
        f"{name}ForSequenceClassification": CLASSES,
        f"{name}ForTokenClassification": TAGS,
        f"{name}ForQuestionAnswering": SPANS,
        f"{name}ForMultipleChoice": RECTIFIED,
    }


register(
    Family(
        name="nystromformer",
        system="nystromformer",
        settings=(
            *sizes("gelu_new", 1e-5),
            ATTENTION_DROPOUT,
            LENGTH,
            SEGMENTS,
            Custom(landmarks, write_landmarks),
            Key("conv_kernel_size", f"{BLOCK}.mixer.kernel", "kernel", default=65),
        ),
        table=shifted,
        prefix="nystromformer",
        only={"inv_coeff_init_option": False},
        tops=tops("Nystromformer"),
    )
)
ONE_SEGMENT = replace(SEGMENTS, default=1)
register(
    Family(
        name="mra",
        system="mra-attention",
        settings=(
            *sizes(eps=1e-5),
            LENGTH,
            ONE_SEGMENT,
            Key("block_per_row", f"{BLOCK}.mixer.exact", "exact", default=4),
            Key("initial_prior_first_n_blocks", f"{BLOCK}.mixer.first", "first", default=0),
            Key("initial_prior_diagonal_n_blocks", f"{BLOCK}.mixer.diagonal", "diagonal", default=0),
        ),
        table=shifted,
        prefix="mra",
        only={"approx_mode": "full"},
        tops=tops("Mra"),
    )
)


def hashes(config: Config) -> dict[str, Any]:
    """How many hashes; none where their average is taken."""
    return {"hashes": None if config.get("use_expectation", True) else config.value("num_hash", 64)}


def write_hashes(design: Design) -> dict[str, Any]:
    """The same keys."""
    found = design.get(f"{BLOCK}.mixer")
    sampled = found.part is SampledBernoulliAttention
    return {"use_expectation": not sampled, **({"num_hash": found.get("hashes")} if sampled else {})}


register(
    Family(
        name="yoso",
        system="yoso",
        settings=(
            *sizes(),
            LENGTH,
            ONE_SEGMENT,
            Key("hash_code_len", f"{BLOCK}.mixer.bits", "bits", default=9),
            Key("conv_window", f"{BLOCK}.mixer.kernel", "kernel", default=None),
            Custom(hashes, write_hashes),
        ),
        table=shifted,
        prefix="yoso",
        tops=tops("Yoso"),
    )
)
