"""GPT-2."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import Beside, ClassHead, LastToken, TiedHead
from everyformer.interop.bert import EACH, SPANS, each_token
from everyformer.interop.config import Config, Depth, Key, Labels, Only, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.specs import Spec, spec

BLOCK = "backbone.blocks.*"


def table(design: Design) -> list[Pair]:
    """The body; their maps are stored (inputs, outputs)."""
    return [
        *layer("embedding.table", "wte", bias=False),
        *layer("embedding.positions.table", "wpe", bias=False),
        *layer(f"{BLOCK}.residual.0.norm", "h.*.ln_1"),
        *layer(f"{BLOCK}.mixer.qkv", "h.*.attn.c_attn", transposed=True),
        *layer(f"{BLOCK}.mixer.output", "h.*.attn.c_proj", transposed=True),
        *layer(f"{BLOCK}.residual.1.norm", "h.*.ln_2"),
        *layer(f"{BLOCK}.feedforward.up", "h.*.mlp.c_fc", transposed=True),
        *layer(f"{BLOCK}.feedforward.down", "h.*.mlp.c_proj", transposed=True),
        *layer("backbone.norm", "ln_f"),
    ]


def last_token(config: Config) -> Spec[ClassHead]:
    """A class read from the last token, without a bias."""
    return spec(ClassHead, classes=len(labels(config)), pool=spec(LastToken), bias=False)


def two_heads(config: Config) -> Spec[Beside]:
    """The next token, and beside it how likely a text is the answer, read from its last token."""
    words = spec(TiedHead, vocabulary=config.value("vocab_size"))
    score = spec(ClassHead, classes=1, pool=spec(LastToken))
    return spec(Beside, head=words, beside=(score,), names=("choice",))


register(
    Family(
        name="gpt2",
        system="gpt",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("n_positions", "embedding.positions.length", "length"),
            Key("n_embd", "width", "width"),
            Depth("n_layer", "backbone.blocks"),
            Key("n_head", f"{BLOCK}.mixer.heads", "heads"),
            Key("n_inner", f"{BLOCK}.feedforward.hidden", "hidden", default=None),
            Key("activation_function", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu_new"),
            Key("resid_pdrop", f"{BLOCK}.residual.dropout", "dropout", default=0.1),
            Key("embd_pdrop", "embedding.dropout", default=0.1),
            Key("attn_pdrop", f"{BLOCK}.mixer.dropout", default=0.1),
            Key("layer_norm_epsilon", "**.norm.eps", default=1e-5),
        ),
        table=table,
        prefix="transformer",
        only={
            "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False,
            "tie_word_embeddings": True,
        },
        unused=("*.attn.bias", "*.attn.masked_bias"),
        tops={
            "GPT2LMHeadModel": Top(table=(*layer("head.project", "lm_head", bias=False),)),
            "GPT2Model": Top(head=lambda config: None, prefix=""),
            "GPT2ForSequenceClassification": Top(
                head=last_token,
                settings=(Labels("head.classes", "head.classes"),),
                table=(*layer("head.classify", "score", bias=False),),
            ),
            "GPT2ForQuestionAnswering": SPANS,
            "GPT2DoubleHeadsModel": Top(
                head=two_heads,
                settings=(
                    Only(
                        summary_type="cls_index", summary_use_proj=True, summary_proj_to_labels=True,
                        summary_activation=None,
                    ),
                ),
                table=(
                    *layer("head.head.project", "lm_head", bias=False),
                    *layer("head.beside.0.classify", "multiple_choice_head.summary"),
                ),
            ),
            "GPT2ForTokenClassification": Top(
                head=each_token,
                settings=(EACH,),
                table=(*layer("head.project", "classifier"),),
            ),
        },
    )
)  # fmt: skip
