"""GPT-NeoX and Pythia."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.bert import EACH, begin_and_end, each_token
from everyformer.interop.config import Config, Custom, Depth, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Interleaved
from everyformer.interop.gpt import BLOCK, last_token
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

POSITIONS = "backbone.blocks.0.mixer.positions"


def rope(config: Config) -> dict[str, Any]:
    """The rotation, under its name of today or in the two keys of old."""
    found = config.get("rope_parameters") or {
        "rope_theta": config.get("rotary_emb_base", 10000.0), "partial_rotary_factor": config.get("rotary_pct", 0.25),
    }  # fmt: skip
    if found.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise DoesNotFit(f"the rotation {found}; the system has the plain one", "positions")
    return {"base": found["rope_theta"], "fraction": found.get("partial_rotary_factor", 1.0)}


def write_rope(design: Design) -> dict[str, Any]:
    """The rotation as they write it today."""
    base, fraction = (design.get(f"{POSITIONS}.{name}") for name in ("base", "fraction"))
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": fraction}}


def table(design: Design) -> list[Pair]:
    """The body; the rows of their fused projection are heads first."""
    fused = Interleaved(design.get("backbone.blocks.0.mixer.heads"))
    return [
        *layer("embedding.table", "embed_in", bias=False),
        *layer(f"{BLOCK}.norm.0", "layers.*.input_layernorm"),
        *layer(f"{BLOCK}.norm.1", "layers.*.post_attention_layernorm"),
        *layer(f"{BLOCK}.mixer.qkv", "layers.*.attention.query_key_value", form=fused),
        *layer(f"{BLOCK}.mixer.output", "layers.*.attention.dense"),
        *layer(f"{BLOCK}.feedforward.up", "layers.*.mlp.dense_h_to_4h"),
        *layer(f"{BLOCK}.feedforward.down", "layers.*.mlp.dense_4h_to_h"),
        *layer("backbone.norm", "final_layer_norm"),
    ]


register(
    Family(
        name="gpt_neox",
        system="gpt-neox",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
            Key("attention_dropout", f"{BLOCK}.mixer.dropout", "dropout", default=0.0),
            Key("attention_bias", f"{BLOCK}.mixer.bias", "bias", default=True),
            Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-5),
            Custom(rope, write_rope),
        ),
        table=table,
        prefix="gpt_neox",
        only={"use_parallel_residual": True, "tie_word_embeddings": False},
        unused=("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq"),
        tops={
            "GPTNeoXForCausalLM": Top(
                table=(*layer("head.project", "embed_out", bias=False), *layer("head.project", "lm_head", bias=False))
            ),
            "GPTNeoXModel": Top(head=lambda config: None, prefix=""),
            "GPTNeoXForSequenceClassification": Top(
                head=last_token,
                settings=(Labels("head.classes", "head.classes"),),
                table=(*layer("head.classify", "score", bias=False),),
            ),
            "GPTNeoXForTokenClassification": Top(
                head=each_token, settings=(EACH,), table=(*layer("head.project", "classifier"),)
            ),
            "GPTNeoXForQuestionAnswering": Top(head=begin_and_end, table=(*layer("head.project", "qa_outputs"),)),
        },
    )
)
