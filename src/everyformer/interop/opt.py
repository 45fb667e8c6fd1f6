"""OPT: a GPT-2 with rectified units."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop.bert import begin_and_end
from everyformer.interop.config import Depth, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following
from everyformer.interop.gpt import BLOCK, last_token
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

SKIPPED = 2
"""Rows of the table of positions that no token has."""


def table(design: Design) -> list[Pair]:
    """The body."""
    theirs = "layers.*"
    return [
        *layer("embedding.table", "embed_tokens", bias=False),
        Pair("embedding.positions.table.weight", ("embed_positions.weight",), Following(SKIPPED)),
        *layer(f"{BLOCK}.residual.0.norm", f"{theirs}.self_attn_layer_norm"),
        *layer(f"{BLOCK}.mixer.qkv", *(f"{theirs}.self_attn.{name}_proj" for name in "qkv")),
        *layer(f"{BLOCK}.mixer.output", f"{theirs}.self_attn.out_proj"),
        *layer(f"{BLOCK}.residual.1.norm", f"{theirs}.final_layer_norm"),
        *layer(f"{BLOCK}.feedforward.up", f"{theirs}.fc1"),
        *layer(f"{BLOCK}.feedforward.down", f"{theirs}.fc2"),
        *layer("backbone.norm", "final_layer_norm"),
    ]


register(
    Family(
        name="opt",
        system="gpt",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("max_position_embeddings", "embedding.positions.length", "length", default=2048),
            Key("hidden_size", "width", "width"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
            Key("ffn_dim", f"{BLOCK}.feedforward.hidden", "hidden"),
            Key("activation_function", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "relu"),
            Key("dropout", f"{BLOCK}.residual.dropout", "dropout", default=0.1),
            Key("attention_dropout", f"{BLOCK}.mixer.dropout", default=0.0),
        ),
        table=table,
        prefix="model.decoder",
        only={
            "do_layer_norm_before": True, "enable_bias": True, "layer_norm_elementwise_affine": True,
            "_remove_final_layer_norm": False, "tie_word_embeddings": True,
        },
        tops={
            "OPTForCausalLM": Top(table=(*layer("head.project", "lm_head", bias=False),)),
            "OPTModel": Top(head=lambda config: None, prefix="decoder"),
            "OPTForSequenceClassification": Top(
                head=last_token,
                settings=(Labels("head.classes", "head.classes"),),
                table=(*layer("head.classify", "score", bias=False),),
            ),
            "OPTForQuestionAnswering": Top(head=begin_and_end, table=(*layer("head.project", "qa_outputs"),)),
        },
    )
)  # fmt: skip
