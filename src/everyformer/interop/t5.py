"""T5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everyformer.designs import Design
from everyformer.feedforward import Gated
from everyformer.heads import TiedHead
from everyformer.interop.config import Config, Custom, Depth, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

BLOCK = "encoder.blocks.0"


def activation(config: Config) -> dict[str, Any]:
    """'relu', 'gated-gelu' (which is the tanh approximation), 'gated-silu'."""
    kind = config.get("feed_forward_proj", "relu")
    gated, name = kind.startswith("gated-"), kind.removeprefix("gated-")
    name = "gelu_new" if kind == "gated-gelu" else name
    return {
        "gated": gated,
        **Key("activation", "activation", "activation", ACTIVATIONS).read(Config({"activation": name})),
    }


def write_activation(design: Design) -> dict[str, Any]:
    """The same in their words."""
    name = Key("", f"{BLOCK}.feedforward.activation", values=ACTIVATIONS).write(design)[""]
    if design.get(f"{BLOCK}.feedforward").part is not Gated:
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


def table(design: Design) -> list[Pair]:
    """Both stacks; a layer of the decoder has the cross-attention in its middle."""
    pairs = layer("source.table", "shared", bias=False)
    pairs += layer("source.table", "encoder.embed_tokens", bias=False) + layer(
        "source.table", "decoder.embed_tokens", bias=False
    )
    for stack, last in (("encoder", 1), ("decoder", 2)):
        ours, theirs = f"{stack}.blocks.*", f"{stack}.block.*.layer"
        dense = f"{theirs}.{last}.DenseReluDense"
        gated = design.get(f"{stack}.blocks.0.feedforward").part is Gated
        pairs += layer(
            f"{stack}.positions.table", f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias", bias=False
        )
        pairs += layer(f"{ours}.mixer.qkv", *(f"{theirs}.0.SelfAttention.{name}" for name in "qkv"), bias=False)
        pairs += layer(f"{ours}.mixer.output", f"{theirs}.0.SelfAttention.o", bias=False)
        cross = f"{theirs}.1.EncDecAttention"
        pairs += layer(f"{ours}.cross.0.query", f"{cross}.q", bias=False)
        pairs += layer(f"{ours}.cross.0.key_value", f"{cross}.k", f"{cross}.v", bias=False)
        pairs += layer(f"{ours}.cross.0.output", f"{cross}.o", bias=False)
        up = ("wi_0", "wi_1") if gated else ("wi",)
        pairs += layer(f"{ours}.feedforward.up", *(f"{dense}.{name}" for name in up), bias=False)
        pairs += layer(f"{ours}.feedforward.down", f"{dense}.wo", bias=False)
        pairs += layer(f"{ours}.residual.*.norm", f"{theirs}.*.layer_norm", bias=False)
        pairs += layer(f"{stack}.norm", f"{stack}.final_layer_norm", bias=False)
    return pairs


def family(name: str, top: str, silent: dict[str, Any], fixed: dict[str, Any]) -> Family:
    """T5, and mT5, which is the same but for what a `silent` config means, and for what is `fixed` whatever it says."""

    def said(reads: Callable[[Config], dict[str, Any]]) -> Callable[[Config], dict[str, Any]]:
        return lambda config: reads(Config({**silent, **config, **fixed}, config.names))

    return Family(
        name=name,
        system="t5",
        settings=(
            Key("vocab_size", "source.vocabulary", "vocabulary"),
            Key("d_model", "width", "width"),
            Key("d_kv", f"{BLOCK}.mixer.head_width", "head_width", default=64),
            Key("d_ff", f"{BLOCK}.feedforward.hidden", "hidden"),
            Depth("num_layers", "encoder.blocks"),
            Key("num_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("relative_attention_num_buckets", "encoder.positions.buckets", "buckets", default=32),
            Key("relative_attention_max_distance", "encoder.positions.farthest", "farthest", default=128),
            Key("dropout_rate", f"{BLOCK}.mixer.dropout", "dropout", default=0.1),
            Key("layer_norm_epsilon", "encoder.norm.eps", "eps", default=1e-6),
            Custom(decoder_depth, lambda design: {"num_decoder_layers": len(design.get("decoder.blocks"))}),
            Custom(said(activation), write_activation),
            Custom(said(head), write_head),
        ),
        table=table,
        unused=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
        tops={top: Top(table=(*layer("head.project", "lm_head", bias=False),))},
    )


def decoder_depth(config: Config) -> dict[str, Any]:
    """As deep as the encoder where nothing is said."""
    depth = config.get("num_decoder_layers")
    return {} if depth is None else Depth("num_decoder_layers", "decoder.blocks", "decoder_depth").read(config)


register(family("t5", "T5ForConditionalGeneration", {}, {}))
gated = {"feed_forward_proj": "gated-gelu"}
register(family("mt5", "MT5ForConditionalGeneration", gated, {"scale_decoder_outputs": False}))
