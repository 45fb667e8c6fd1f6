"""RecurrentGemma."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.alternating import mixers
from everyformer.interop.config import Config, Custom, Depth, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.llama import rope
from everyformer.interop.weights import Pair, layer
from everyformer.mixers import Attention

BLOCK = "backbone.blocks.*"
PATTERN = ("recurrent", "recurrent", "attention")


def shape(config: Config) -> dict[str, Any]:
    """The kinds of layers, and the widths that theirs counts otherwise: gate and value of a feedforward together."""
    return {
        "pattern": tuple(config.get("block_types") or PATTERN),
        "hidden": config.value("intermediate_size") // 2,
        "inner": config.get("lru_width"),
    }


def write_shape(design: Design) -> dict[str, Any]:
    """The same keys, the kind of every layer said."""
    found = mixers(design)
    return {
        "block_types": ["attention" if each.part is Attention else "recurrent" for each in found],
        "intermediate_size": 2 * design.get("backbone.blocks.0.feedforward.hidden"),
        "lru_width": next((each.get("hidden") for each in found if each.part is not Attention), None),
    }


def recurrence(config: Config) -> dict[str, Any]:
    """What only the recurrent layers have."""
    return {"kernel": config.get("conv1d_width", 4)}


def write_recurrence(design: Design) -> dict[str, Any]:
    """The same key, where there are any."""
    return next(({"conv1d_width": each.get("kernel")} for each in mixers(design) if each.part is not Attention), {})


def attention(config: Config) -> dict[str, Any]:
    """What only the layers of attention have."""
    said = config.get("rope_parameters") or config
    return {
        "key_heads": config.get("num_key_value_heads") or config.value("num_attention_heads"),
        "window": config.get("attention_window_size", 2048),
        "bias": bool(config.get("attention_bias", False)),
        "base": rope(config)["base"],
        "fraction": said.get("partial_rotary_factor", 0.5),
    }


def write_attention(design: Design) -> dict[str, Any]:
    """The same keys, where there are any."""
    for each in mixers(design):
        if each.part is Attention:
            turned = each.get("positions")
            return {
                "num_key_value_heads": each.get("key_heads"),
                "attention_window_size": each.get("mask").before + 1,
                "attention_bias": each.get("bias"),
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": turned.get("base"),
                    "partial_rotary_factor": turned.get("fraction"),
                },
            }
    return {}


def table(design: Design) -> list[Pair]:
    """The body: each layer has the tensors of its kind."""
    own, theirs = f"{BLOCK}.mixer", "layers.*.temporal_block"
    gates = {"enter": "input_gate", "keep": "recurrent_gate"}
    return [
        *layer("embedding.table", "embed_tokens", bias=False),
        *layer(f"{BLOCK}.residual.0.norm", "layers.*.temporal_pre_norm", bias=False),
        *layer(f"{own}.qkv", *(f"{theirs}.{name}_proj" for name in "qkv")),
        *(
            pair
            for i, each in enumerate(mixers(design))
            for pair in layer(
                f"backbone.blocks.{i}.mixer.output",
                f"layers.{i}.temporal_block.{'o_proj' if each.part is Attention else 'linear_out'}",
            )
        ),
        *layer(f"{own}.project", f"{theirs}.linear_y", f"{theirs}.linear_x"),
        *layer(f"{own}.convolution", f"{theirs}.conv_1d"),
        *(
            Pair(f"{own}.{ours}.{kind}", (f"{theirs}.rg_lru.{name}_{kind}",))
            for ours, name in gates.items()
            for kind in ("weight", "bias")
        ),
        Pair(f"{own}.rate", (f"{theirs}.rg_lru.recurrent_param",)),
        *layer(f"{BLOCK}.residual.1.norm", "layers.*.channel_pre_norm", bias=False),
        *layer(f"{BLOCK}.feedforward.up", "layers.*.mlp_block.gate_proj", "layers.*.mlp_block.up_proj"),
        *layer(f"{BLOCK}.feedforward.down", "layers.*.mlp_block.down_proj"),
        *layer("backbone.norm", "final_norm", bias=False),
    ]


register(
    Family(
        name="recurrent_gemma",
        system="recurrentgemma",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("rms_norm_eps", "backbone.norm.eps", "eps", default=1e-6),
            Custom(shape, write_shape),
            Custom(recurrence, write_recurrence),
            Custom(attention, write_attention),
        ),
        table=table,
        prefix="model",
        only={"hidden_activation": "gelu_pytorch_tanh", "attention_dropout": 0.0, "tie_word_embeddings": True},
        tops={
            "RecurrentGemmaForCausalLM": Top(settings=(Key("logits_soft_cap", "head.cap", default=30.0),)),
            "RecurrentGemmaModel": Top(head=lambda config: None, prefix=""),
        },
    )
)
