"""ModernBERT."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.heads import FirstToken, Mean, TokenHead
from everyformer.interop.alternating import Kinds, Near, Rotations
from everyformer.interop.bert import EACH
from everyformer.interop.config import Always, Config, Custom, Depth, Key, Labels, Setting, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.gpt import BLOCK
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.specs import Spec, spec


def pool(config: Config) -> dict[str, Any]:
    """The first token, or the mean of all."""
    kinds = {"cls": FirstToken, "mean": Mean}
    chosen = Key("classifier_pooling", "", "pool", kinds, "cls").read(config)["pool"]
    return {"head.pool": spec(chosen)}


def write_pool(design: Design) -> dict[str, Any]:
    """The same."""
    return {"classifier_pooling": "cls" if design.get("head.pool").part is FirstToken else "mean"}


def each(count: int | None) -> Any:
    """Classes for every token, through the hidden layer that every head has."""

    def head(config: Config) -> Spec[TokenHead]:
        masked = FAMILY.design(config, "ModernBertForMaskedLM").get("head")
        many = len(labels(config)) if count is None else count
        return spec(TokenHead, vocabulary=many, bias=True, transform=masked.get("transform"))

    return head


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *layer("embedding.table", "embeddings.tok_embeddings", bias=False),
        *layer("embedding.norm", "embeddings.norm"),
        *layer(f"{BLOCK}.residual.0.norm", "layers.*.attn_norm"),
        *layer(f"{BLOCK}.mixer.qkv", "layers.*.attn.Wqkv"),
        *layer(f"{BLOCK}.mixer.output", "layers.*.attn.Wo"),
        *layer(f"{BLOCK}.residual.1.norm", "layers.*.mlp_norm"),
        *layer(f"{BLOCK}.feedforward.up", "layers.*.mlp.Wi"),
        *layer(f"{BLOCK}.feedforward.down", "layers.*.mlp.Wo"),
        *layer("backbone.norm", "final_norm"),
    ]


TRANSFORM = (*layer("head.transform.linear", "head.dense"), *layer("head.transform.norm", "head.norm"))
DROPOUT = Key("classifier_dropout", "head.dropout", "head_dropout", default=0.0)


def classified(count: Setting) -> Top:
    """Classifies a text; as one of several answers with one class, where the choices of a question are rows of a batch."""
    return Top(
        settings=(count, Custom(pool, write_pool), DROPOUT), table=(*TRANSFORM, *layer("head.classify", "classifier"))
    )


FAMILY = register(
    Family(
        name="modernbert",
        system="modernbert",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("hidden_activation", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
            Key("mlp_dropout", f"{BLOCK}.feedforward.dropout", "dropout", default=0.0),
            Key("attention_dropout", f"{BLOCK}.mixer.dropout", "attention_dropout", default=0.0),
            Key("norm_eps", "embedding.norm.eps", "eps", default=1e-5),
            Kinds(lambda index, n: index % n == 0, "global_attn_every_n_layers", 3),
            Near("local_attention", 128, lambda mask: 2 * mask.before),
            Rotations(("global_rope_theta", "local_rope_theta"), (160000.0, 10000.0)),
        ),
        table=table,
        prefix="model",
        only={
            "norm_bias": False, "attention_bias": False, "mlp_bias": False, "classifier_bias": False,
            "classifier_activation": "gelu", "decoder_bias": True, "tie_word_embeddings": True,
        },
        tops={
            "ModernBertForMaskedLM": Top(table=(*TRANSFORM, *layer("head.project", "decoder"))),
            "ModernBertModel": Top(head=lambda config: None, prefix=""),
            "ModernBertForSequenceClassification": classified(Labels("head.classes")),
            "ModernBertForMultipleChoice": classified(Always("classes", 1)),
            "ModernBertForTokenClassification": Top(
                head=each(None), settings=(EACH,), table=(*TRANSFORM, *layer("head.project", "classifier"))
            ),
            "ModernBertForQuestionAnswering": Top(head=each(2), table=(*TRANSFORM, *layer("head.project", "classifier"))),
        },
    )
)  # fmt: skip
