"""BERT."""

from __future__ import annotations

from dataclasses import replace

from everyformer.backbones import Decoder
from everyformer.designs import Design
from everyformer.heads import Beside, ClassHead, PoolHead, TokenHead
from everyformer.interop.config import Config, Depth, Key, Labels, Setting, labels
from everyformer.interop.family import Family, Top, family_of, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.variants import exchanged
from everyformer.interop.weights import Pair, layer
from everyformer.registry import find_system
from everyformer.specs import Spec, spec

BLOCK = "backbone.blocks.0"


def sizes(activation: str = "gelu", eps: float = 1e-12) -> tuple[Setting, ...]:
    """What the configs of BERT's relatives share; the two are what a config without the key means."""
    return (
        Key("vocab_size", "embedding.vocabulary", "vocabulary"),
        Key("hidden_size", "width", "width"),
        Depth("num_hidden_layers", "backbone.blocks"),
        Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
        Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
        Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, activation),
        Key("hidden_dropout_prob", f"{BLOCK}.residual.dropout", "dropout", default=0.1),
        Key("layer_norm_eps", "embedding.norm.eps", "eps", default=eps),
    )


ATTENTION_DROPOUT = Key("attention_probs_dropout_prob", f"{BLOCK}.mixer.dropout", "attention_dropout", default=0.1)
SETTINGS = (*sizes(), ATTENTION_DROPOUT)
LENGTH = Key("max_position_embeddings", "embedding.positions.length", "length")
SEGMENTS = Key("type_vocab_size", "embedding.segments", "segments", default=2)


def embeddings(table: str = "embeddings") -> list[Pair]:
    """The tensors of an embedding, but for the positions."""
    return [
        *layer("embedding.table", f"{table}.word_embeddings", bias=False),
        *layer("embedding.segments", f"{table}.token_type_embeddings", bias=False),
        *layer("embedding.norm", f"{table}.LayerNorm"),
    ]


POSITIONS = layer("embedding.positions.table", "embeddings.position_embeddings", bias=False)
BLOCKS = [
    *layer("backbone.blocks.*.mixer.qkv", *(f"encoder.layer.*.attention.self.{n}" for n in ("query", "key", "value"))),
    *layer("backbone.blocks.*.mixer.output", "encoder.layer.*.attention.output.dense"),
    *layer("backbone.blocks.*.residual.0.norm", "encoder.layer.*.attention.output.LayerNorm"),
    *layer("backbone.blocks.*.feedforward.up", "encoder.layer.*.intermediate.dense"),
    *layer("backbone.blocks.*.feedforward.down", "encoder.layer.*.output.dense"),
    *layer("backbone.blocks.*.residual.1.norm", "encoder.layer.*.output.LayerNorm"),
]


def table(design: Design) -> list[Pair]:
    """The body."""
    return [*embeddings(), *POSITIONS, *BLOCKS, *layer("head.hidden", "pooler.dense")]


def pooled(config: Config) -> Spec[PoolHead] | None:
    """The pooler, where the checkpoint has one."""
    poolers = ("pooler.dense.weight", "pooler.weight")
    return spec(PoolHead, hidden=True) if any(name.endswith(poolers) for name in config.names) else None


def pooler(prefix: str, name: str = "pooler.dense") -> tuple[Pair, ...]:
    """The pooler of a class that is the body, in files with and without the prefix; other classes have another there."""
    return (*layer("head.hidden", name), *layer("head.hidden", f"{prefix}.{name}"))


def each_token(config: Config) -> Spec[TokenHead]:
    """Classes for every token."""
    return spec(TokenHead, vocabulary=len(labels(config)), bias=True)


def begin_and_end(config: Config) -> Spec[TokenHead]:
    """For every token how likely an answer begins and ends there."""
    return spec(TokenHead, vocabulary=2, bias=True)


DROPOUT = Key("classifier_dropout", "head.dropout", "head_dropout", default=None)
EACH = Labels("head.vocabulary", "head.vocabulary")
POOLER = ("*pooler.*",)

MASKED = Top(
    table=(
        *layer("head.transform.linear", "cls.predictions.transform.dense"),
        *layer("head.transform.norm", "cls.predictions.transform.LayerNorm"),
        Pair("head.project.bias", ("cls.predictions.bias",)),
        *layer("head.project", "cls.predictions.decoder"),
    ),
    unused=(*POOLER, "cls.seq_relationship.*"),
)
"""Guesses masked words."""
NEXT = "cls.seq_relationship"
FOLLOWS = Top(
    head=lambda config: spec(ClassHead, classes=2, hidden=True),
    table=(*layer("head.classify", NEXT),),
    unused=("cls.predictions.*",),
)
"""Tells whether the second sentence followed the first."""
TAGS = Top(head=each_token, settings=(EACH,), table=(*layer("head.project", "classifier"),), unused=POOLER)
"""Classes for every token."""
SPANS = Top(head=begin_and_end, table=(*layer("head.project", "qa_outputs"),), unused=POOLER)
"""Finds answers in a text."""


def choices(*table: Pair, activation: str = "tanh", settings: tuple[Setting, ...] = ()) -> Top:
    """Scores a text as one of several answers, from its first token; the choices of a question are rows of a batch."""
    return Top(
        head=lambda config: spec(ClassHead, classes=1, hidden=True, activation=activation),
        settings=settings,
        table=(*table, *layer("head.classify", "classifier")),
    )


CHOICES = choices()
"""The same through the pooler of the body."""


def pretrained(masked: str, pooler: str, table: tuple[Pair, ...] = MASKED.table, classify: str = NEXT) -> Top:
    """Guesses masked words as the class `masked` does, and beside them which of two sentences came first."""

    def head(config: Config) -> Spec[Beside]:
        words = family_of(config).design(config, masked).get("head")
        follows = spec(ClassHead, classes=2, hidden=True)
        return spec(Beside, head=words, beside=(follows,), names=("next",))

    return Top(
        head=head,
        table=(
            *(pair.inside("head") for pair in table),
            *layer("head.beside.0.hidden", pooler),
            *layer("head.beside.0.classify", classify),
        ),
    )


FAMILY = register(
    Family(
        name="bert",
        system="bert",
        settings=(*SETTINGS, LENGTH, SEGMENTS),
        table=table,
        prefix="bert",
        only={"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"},
        tops={
            "BertModel": Top(head=pooled, prefix=""),
            "BertForMaskedLM": MASKED,
            "BertForSequenceClassification": Top(
                settings=(Labels("head.classes"), DROPOUT), table=(*layer("head.classify", "classifier"),)
            ),
            "BertForNextSentencePrediction": FOLLOWS,
            "BertForPreTraining": pretrained("BertForMaskedLM", "bert.pooler.dense"),
            "BertForTokenClassification": TAGS,
            "BertForQuestionAnswering": SPANS,
            "BertForMultipleChoice": CHOICES,
        },
    )
)


def writes(family: Family, name: str, masked: str) -> Family:
    """The same as a decoder, in which no token sees a later one: the class of that name has the tensors of `masked`."""
    make = exchanged(find_system(family.system).make, "backbone", Decoder)
    only = {**family.only, "is_decoder": True}
    return replace(family, make=make, only=only, tops={name: family.tops[masked]})


register(writes(FAMILY, "BertLMHeadModel", "BertForMaskedLM"))
