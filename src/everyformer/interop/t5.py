"""T5 and mT5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from everyformer.designs import Design
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead
from everyformer.interop import bart, variants
from everyformer.interop.bert import TAGS
from everyformer.interop.config import Config, Custom, Depth, Key, Setting
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.published.t5 import t5


def activation(config: Config) -> dict[str, Any]:
    """'relu', 'gated-gelu' (which is the tanh approximation), 'gated-silu'."""
    kind = config.get("feed_forward_proj", "relu")
    gated, name = kind.startswith("gated-"), kind.removeprefix("gated-")
    name = "gelu_new" if kind == "gated-gelu" else name
    return {
        "gated": gated,
        **Key("activation", "activation", "activation", ACTIVATIONS).read(Config({"activation": name})),
    }


def write_activation(block: str, design: Design) -> dict[str, Any]:
    """The same in their words, from a block."""
    name = Key("", f"{block}.feedforward.activation", values=ACTIVATIONS).write(design)[""]
    if design.get(f"{block}.feedforward").part is not Gated:
        return {"feed_forward_proj": name}
    return {"feed_forward_proj": "gated-gelu" if name == "gelu_new" else f"gated-{name}"}


def head(config: Config) -> dict[str, Any]:
    """A head of its own where the checkpoint holds one; its input is scaled unless the config says untied or not."""
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
    scale = config.value("d_model") ** -0.5 if scaled else 1.0
    return {"tied": "lm_head.weight" not in config.names, "head.scale": scale}


def write_head(design: Design) -> dict[str, Any]:
    """Scaled or not; the checkpoint says the rest."""
    scaled = design.get("head.scale") != 1.0
    return {"tie_word_embeddings": design.get("head").part is TiedHead and scaled, "scale_decoder_outputs": scaled}


def stack(design: Design, ours: str, theirs: str, last: int) -> list[Pair]:
    """One stack; a layer of the decoder has the cross-attention in its middle."""
    block, layers = f"{ours}.blocks.*", f"{theirs}.block.*.layer"
    cross, dense = f"{layers}.1.EncDecAttention", f"{layers}.{last}.DenseReluDense"
    found = design.find(f"{ours}.blocks.0.feedforward")
    gated = bool(found) and design.get(found[0]).part is Gated
    up = ("wi_0", "wi_1") if gated else ("wi",)
    bias = f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return [
        *layer(f"{ours}.positions.table", bias, bias=False),
        *layer(f"{block}.mixer.qkv", *(f"{layers}.0.SelfAttention.{name}" for name in "qkv"), bias=False),
        *layer(f"{block}.mixer.output", f"{layers}.0.SelfAttention.o", bias=False),
        *layer(f"{block}.cross.0.query", f"{cross}.q", bias=False),
        *layer(f"{block}.cross.0.key_value", f"{cross}.k", f"{cross}.v", bias=False),
        *layer(f"{block}.cross.0.output", f"{cross}.o", bias=False),
        *layer(f"{block}.feedforward.up", *(f"{dense}.{name}" for name in up), bias=False),
        *layer(f"{block}.feedforward.down", f"{dense}.wo", bias=False),
        *layer(f"{block}.residual.*.norm", f"{layers}.*.layer_norm", bias=False),
        *layer(f"{ours}.norm", f"{theirs}.final_layer_norm", bias=False),
    ]


def tables(ours: str) -> list[Pair]:
    """The one table of ids under all its names."""
    names = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
    return [pair for name in names for pair in layer(f"{ours}.table", name, bias=False)]


def table(design: Design) -> list[Pair]:
    """Both stacks."""
    return [
        *tables("source"),
        *stack(design, "encoder", "encoder", 1),
        *stack(design, "decoder", "decoder", 2),
    ]


def reader(design: Design) -> list[Pair]:
    """The encoder alone."""
    return [*tables("embedding"), *stack(design, "backbone", "encoder", 1)]


def decoder_depth(config: Config) -> dict[str, Any]:
    """As deep as the encoder where nothing is said."""
    depth = config.get("num_decoder_layers")
    return {} if depth is None else Depth("num_decoder_layers", "decoder.blocks", "decoder_depth").read(config)


def families(name: str, title: str, silent: dict[str, Any], fixed: dict[str, Any]) -> None:
    """T5, and mT5, which is the same but for what a `silent` config means, and for what is `fixed` whatever it says.

    Those that classify or find read the source as the target too, begun as any target, or run the encoder alone.
    """

    def said(reads: Callable[[Config], dict[str, Any]]) -> Callable[[Config], dict[str, Any]]:
        return lambda config: reads(Config({**silent, **config, **fixed}, config.names))

    def settings(embedding: str, body: str) -> tuple[Setting, ...]:
        block = f"{body}.blocks.0"
        return (
            Key("vocab_size", f"{embedding}.vocabulary", "vocabulary"),
            Key("d_model", "width", "width"),
            Key("d_kv", f"{block}.mixer.head_width", "head_width", default=64),
            Key("d_ff", f"{block}.feedforward.hidden", "hidden"),
            Depth("num_layers", f"{body}.blocks"),
            Key("num_heads", f"{block}.mixer.heads", "heads"),
            Key("relative_attention_num_buckets", f"{body}.positions.buckets", "buckets", default=32),
            Key("relative_attention_max_distance", f"{body}.positions.farthest", "farthest", default=128),
            Key("dropout_rate", f"{block}.mixer.dropout", "dropout", default=0.1),
            Key("layer_norm_epsilon", f"{body}.norm.eps", "eps", default=1e-6),
            Custom(said(activation), partial(write_activation, block)),
        )

    depth = Custom(decoder_depth, lambda design: {"num_decoder_layers": len(design.get("decoder.blocks"))})
    register(
        Family(
            name=name,
            system="t5",
            settings=(*settings("source", "encoder"), depth),
            table=table,
            unused=("*decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
            tops={
                f"{title}ForConditionalGeneration": Top(
                    settings=(Custom(said(head), write_head),), table=(*layer("head.project", "lm_head", bias=False),)
                ),
                f"{title}Model": Top(head=lambda config: None),
                f"{title}ForSequenceClassification": replace(bart.CLASSIFIES, prefix="transformer"),
                f"{title}ForQuestionAnswering": bart.FINDS,
            },
        )
    )
    register(
        Family(
            name=name,
            system="t5",
            make=variants.encoder(t5),
            settings=settings("embedding", "backbone"),
            table=reader,
            tops={
                f"{title}EncoderModel": Top(),
                f"{title}ForTokenClassification": replace(TAGS, prefix="transformer"),
            },
        )
    )


families("t5", "T5", {}, {})
families("mt5", "MT5", {"feed_forward_proj": "gated-gelu"}, {"scale_decoder_outputs": False})
