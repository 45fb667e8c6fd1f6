"""BLOOM."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop.bert import EACH, begin_and_end, each_token
from everyformer.interop.config import Depth, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Interleaved
from everyformer.interop.gpt import BLOCK, last_token
from everyformer.interop.weights import Pair, layer


def table(design: Design) -> list[Pair]:
    """The body; the rows of their fused projection are heads first."""
    fused = Interleaved(design.get("backbone.blocks.0.mixer.heads"))
    return [
        *layer("embedding.table", "word_embeddings", bias=False),
        *layer("embedding.norm", "word_embeddings_layernorm"),
        *layer(f"{BLOCK}.residual.0.norm", "h.*.input_layernorm"),
        *layer(f"{BLOCK}.mixer.qkv", "h.*.self_attention.query_key_value", form=fused),
        *layer(f"{BLOCK}.mixer.output", "h.*.self_attention.dense"),
        *layer(f"{BLOCK}.residual.1.norm", "h.*.post_attention_layernorm"),
        *layer(f"{BLOCK}.feedforward.up", "h.*.mlp.dense_h_to_4h"),
        *layer(f"{BLOCK}.feedforward.down", "h.*.mlp.dense_4h_to_h"),
        *layer("backbone.norm", "ln_f"),
    ]


register(
    Family(
        name="bloom",
        system="bloom",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Depth("n_layer", "backbone.blocks"),
            Key("n_head", f"{BLOCK}.mixer.heads", "heads"),
            Key("hidden_dropout", f"{BLOCK}.residual.dropout", "dropout", default=0.0),
            Key("attention_dropout", f"{BLOCK}.mixer.dropout", "attention_dropout", default=0.0),
            Key("layer_norm_epsilon", "embedding.norm.eps", "eps", default=1e-5),
        ),
        table=table,
        prefix="transformer",
        only={"apply_residual_connection_post_layernorm": False, "tie_word_embeddings": True},
        tops={
            "BloomForCausalLM": Top(table=(*layer("head.project", "lm_head", bias=False),)),
            "BloomModel": Top(head=lambda config: None, prefix=""),
            "BloomForSequenceClassification": Top(
                head=last_token,
                settings=(Labels("head.classes", "head.classes"),),
                table=(*layer("head.classify", "score", bias=False),),
            ),
            "BloomForTokenClassification": Top(
                head=each_token, settings=(EACH,), table=(*layer("head.project", "classifier"),)
            ),
            "BloomForQuestionAnswering": Top(head=begin_and_end, table=(*layer("head.project", "qa_outputs"),)),
        },
    )
)
