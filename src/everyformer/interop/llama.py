"""Llama and its successors."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.heads import TiedHead
from everyformer.interop.bert import EACH, begin_and_end, each_token
from everyformer.interop.config import Config, Custom, Depth, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.gpt import last_token
from everyformer.interop.weights import Pair, layer

BLOCK = "backbone.blocks.*"
FIRST = "backbone.blocks.0.mixer"
SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""Their names of what `positions.Rotary(llama3=...)` holds."""


def rope(config: Config) -> dict[str, Any]:
    """The rotation, under its name of today or in the two keys of old."""
    found = config.get("rope_parameters") or {
        **(config.get("rope_scaling") or {}), "rope_theta": config.get("rope_theta", 10000.0),
    }  # fmt: skip
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "default":
        return {"base": found["rope_theta"], "llama3": None}
    if kind != "llama3":
        raise DoesNotFit(f"rope_type '{kind}'; the system has 'default' and 'llama3'", "positions")
    return {"base": found["rope_theta"], "llama3": tuple(float(found[name]) for name in SCALING)}


def write_rope(design: Design) -> dict[str, Any]:
    """The rotation as they write it today."""
    base, scaling = (design.get(f"{FIRST}.positions.{name}") for name in ("base", "llama3"))
    kind = {} if scaling is None else dict(zip(SCALING, (*scaling[:3], int(scaling[3])), strict=True))
    return {"rope_parameters": {"rope_type": "llama3" if kind else "default", "rope_theta": base, **kind}}


def tied(config: Config) -> dict[str, Any]:
    """Whether the head is the table of the embedding."""
    return {"tied": bool(config.get("tie_word_embeddings", False))}


def write_tied(design: Design) -> dict[str, Any]:
    """The same, from the head."""
    head = design.get("head")
    return {"tie_word_embeddings": head is not None and head.part is TiedHead}


def biases(config: Config) -> dict[str, Any]:
    """One switch for all four maps of attention."""
    said = bool(config.get("attention_bias", False))
    return {"bias": said, "output_bias": said}


def write_biases(design: Design) -> dict[str, Any]:
    """The same switch."""
    return {"attention_bias": design.get(f"{FIRST}.bias")}


HEAD_WIDTH = Key("head_dim", f"{BLOCK}.mixer.head_width", "head_width", default=None)
SETTINGS = (
    Key("vocab_size", "embedding.vocabulary", "vocabulary"),
    Key("hidden_size", "width", "width"),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
    Depth("num_hidden_layers", "backbone.blocks"),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
    Key("num_key_value_heads", f"{BLOCK}.mixer.key_heads", "key_heads", default=None),
    HEAD_WIDTH,
    Key("attention_dropout", f"{BLOCK}.mixer.dropout", default=0.0),
    Key("rms_norm_eps", "backbone.norm.eps", "eps", default=1e-6),
    Custom(rope, write_rope),
)
"""What the configs of Llama's relatives share."""


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *layer("embedding.table", "embed_tokens", bias=False),
        *layer(f"{BLOCK}.residual.0.norm", "layers.*.input_layernorm", bias=False),
        *layer(f"{BLOCK}.mixer.qkv", *(f"layers.*.self_attn.{name}_proj" for name in "qkv")),
        *layer(f"{BLOCK}.mixer.query_key_norm.0", "layers.*.self_attn.q_norm", bias=False),
        *layer(f"{BLOCK}.mixer.query_key_norm.1", "layers.*.self_attn.k_norm", bias=False),
        *layer(f"{BLOCK}.mixer.output", "layers.*.self_attn.o_proj"),
        *layer(f"{BLOCK}.residual.1.norm", "layers.*.post_attention_layernorm", bias=False),
        *layer(f"{BLOCK}.feedforward.up", "layers.*.mlp.gate_proj", "layers.*.mlp.up_proj", bias=False),
        *layer(f"{BLOCK}.feedforward.down", "layers.*.mlp.down_proj", bias=False),
        *layer("backbone.norm", "norm", bias=False),
    ]


def tops(name: str, answers: str = "transformer") -> dict[str, Top]:
    """The classes that every relative of Llama has; `answers` is the prefix of the one that answers questions."""
    return {
        f"{name}ForCausalLM": Top(
            settings=(Custom(tied, write_tied),), table=(*layer("head.project", "lm_head", bias=False),)
        ),
        f"{name}Model": Top(head=lambda config: None, prefix=""),
        f"{name}ForSequenceClassification": Top(
            head=last_token,
            settings=(Labels("head.classes", "head.classes"),),
            table=(*layer("head.classify", "score", bias=False),),
        ),
        f"{name}ForTokenClassification": Top(
            head=each_token,
            settings=(EACH,),
            table=(*layer("head.project", "score"),),
        ),
        f"{name}ForQuestionAnswering": Top(
            head=begin_and_end, prefix=answers, table=(*layer("head.project", "qa_outputs"),)
        ),
    }


register(
    Family(
        name="llama",
        system="llama",
        settings=(*SETTINGS, Custom(biases, write_biases)),
        table=table,
        prefix="model",
        only={"hidden_act": "silu", "mlp_bias": False},
        unused=("*.rotary_emb.inv_freq",),
        tops=tops("Llama"),
    )
)
