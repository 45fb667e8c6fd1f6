"""wav2vec 2.0 and HuBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everyformer.designs import Design
from everyformer.heads import ClassHead, Mean, Narrow, XVector
from everyformer.interop.bert import BLOCK, TAGS
from everyformer.interop.config import Always, Config, Custom, Depth, Key, Labels, Written, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Squeezed
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.norms import PreNorm
from everyformer.specs import Spec, spec

BLOCKS = "backbone.blocks.*"
LISTS = {"conv_dim": ("convs", "widths"), "conv_kernel": ("kernels", "kernels"), "conv_stride": ("strides", "strides")}


def convolutions(config: Config) -> dict[str, Any]:
    """Their shapes, and where the norms stand."""
    kinds = {"group": False, "layer": True}
    found = Key("feat_extract_norm", "", "layered", kinds, "group").read(config)
    return found | {option: tuple(config.value(name)) for name, (option, _) in LISTS.items()}


def write_convolutions(design: Design) -> dict[str, Any]:
    """The same; what hides stretches in training is not here."""
    said = {name: list(design.get(f"embedding.{path}")) for name, (_, path) in LISTS.items()}
    kind = "group" if design.get("embedding.each") is None else "layer"
    return {
        **said, "num_feat_extract_layers": len(said["conv_dim"]), "feat_extract_norm": kind, "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }  # fmt: skip


def first(config: Config) -> dict[str, Any]:
    """Whether norms stand in front of layers."""
    return {"pre_norm": config.get("do_stable_layer_norm", False)}


def write_first(design: Design) -> dict[str, Any]:
    """The same, from a block."""
    return {"do_stable_layer_norm": design.get(f"{BLOCK}.residual").part is PreNorm}


def table(design: Design) -> list[Pair]:
    """The body; a norm in front of the layers has the name of the one behind them."""
    conv, places = "feature_extractor.conv_layers.*", "encoder.pos_conv_embed.conv"
    return [
        *layer("embedding.convs.*", f"{conv}.conv"),
        *layer("embedding.each.*", f"{conv}.layer_norm"),
        *layer("embedding.over_time", f"{conv}.layer_norm".replace("*", "0")),
        *layer("embedding.before", "feature_projection.layer_norm"),
        *layer("embedding.project", "feature_projection.projection"),
        Pair("embedding.masked", ("masked_spec_embed",)),
        Pair("embedding.positions.gain", (f"{places}.parametrizations.weight.original0",)),
        Pair("embedding.positions.direction", (f"{places}.parametrizations.weight.original1",)),
        Pair("embedding.positions.gain", (f"{places}.weight_g",)),
        Pair("embedding.positions.direction", (f"{places}.weight_v",)),
        Pair("embedding.positions.shift", (f"{places}.bias",)),
        *layer("embedding.norm", "encoder.layer_norm"),
        *layer("backbone.norm", "encoder.layer_norm"),
        *layer(f"{BLOCKS}.mixer.qkv", *(f"encoder.layers.*.attention.{name}_proj" for name in "qkv")),
        *layer(f"{BLOCKS}.mixer.output", "encoder.layers.*.attention.out_proj"),
        *layer(f"{BLOCKS}.feedforward.up", "encoder.layers.*.feed_forward.intermediate_dense"),
        *layer(f"{BLOCKS}.feedforward.down", "encoder.layers.*.feed_forward.output_dense"),
        *layer(f"{BLOCKS}.residual.0.norm", "encoder.layers.*.layer_norm"),
        *layer(f"{BLOCKS}.residual.1.norm", "encoder.layers.*.final_layer_norm"),
    ]


def classes(config: Config) -> Spec[ClassHead]:
    """A class read from the mean, through a narrower map."""
    narrow = spec(Narrow, output=config.value("classifier_proj_size", 256))
    return spec(ClassHead, classes=len(labels(config)), pool=spec(Mean), transform=narrow)


CLASSIFIES = Top(
    head=classes,
    settings=(
        Labels("head.classes", "head.classes"),
        Key("classifier_proj_size", "head.transform.output", "head.transform.output", default=256),
    ),
    table=(*layer("head.transform.linear", "projector"), *layer("head.classify", "classifier")),
)
"""Classifies a sound."""


VECTOR = {
    "output": ("xvector_output_dim", 512),
    "widths": ("tdnn_dim", (512, 512, 512, 512, 1500)),
    "kernels": ("tdnn_kernel", (5, 3, 3, 1, 1)),
    "dilations": ("tdnn_dilation", (1, 2, 3, 1, 1)),
}
"""Of each option of the head its key and default."""


def vector(config: Config) -> Spec[XVector]:
    """A vector of a sound, and a map of it, which theirs compares with the speakers in its loss alone.

    Theirs forgets the dilations when it counts the real frames of padded sounds, and takes some that read padding.
    """
    said = {option: config.value(key, default) for option, (key, default) in VECTOR.items()}
    return spec(XVector, classes=said["output"], **said)


SPEAKS = Top(
    head=vector,
    settings=tuple(Key(key, f"head.{option}", default=default) for option, (key, default) in VECTOR.items()),
    table=(
        *layer("head.project", "projector"),
        *layer("head.frames.*", "tdnn.*.kernel"),
        *layer("head.embed", "feature_extractor"),
        *layer("head.classify", "classifier"),
    ),
    unused=("objective.weight",),
)
"""Says who speaks."""


PREDICTS = Top(
    settings=(
        Always("vocabulary", None),
        Key("num_codevector_groups", "head.quantizer.books", "books", default=2),
        Key("num_codevectors_per_group", "head.quantizer.codes", "codes", default=320),
        Key("codevector_dim", "head.quantizer.output", "code_width", default=256),
        Key("proj_codevector_dim", "head.output", "output", default=256),
        Written(mask_time_prob=0.05),  # else theirs has no vector for hidden frames
    ),
    table=(
        *layer("head.project", "project_hid"),
        *layer("head.code", "project_q"),
        *layer("head.quantizer.score", "quantizer.weight_proj"),
        Pair("head.quantizer.table.weight", ("quantizer.codevectors",), Squeezed(0)),
    ),
)
"""Says vectors of hidden frames, and has the codes that they are compared with."""


def family(name: str, title: str, more: Mapping[str, Top], **only: Any) -> Family:
    """One of the two; `more` are the classes that it has alone."""
    return Family(
        name=name,
        system="wav2vec2",
        settings=(
            Key("hidden_size", "width", "width"),
            Key("intermediate_size", f"{BLOCKS}.feedforward.hidden", "hidden"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Key("num_attention_heads", f"{BLOCKS}.mixer.heads", "heads"),
            Key("hidden_act", f"{BLOCKS}.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
            Key("conv_bias", "embedding.bias", "conv_bias", default=False),
            Key("num_conv_pos_embeddings", "embedding.positions.kernel", "places", default=128),
            Key("num_conv_pos_embedding_groups", "embedding.positions.groups", "groups", default=16),
            Key("hidden_dropout", f"{BLOCKS}.residual.dropout", "dropout", default=0.1),
            Key("attention_dropout", f"{BLOCKS}.mixer.dropout", "attention_dropout", default=0.1),
            Key("layer_norm_eps", "embedding.eps", "eps", default=1e-5),
            Custom(convolutions, write_convolutions),
            Custom(first, write_first),
        ),
        table=table,
        prefix=name,
        only={"feat_extract_activation": "gelu", "add_adapter": False, "use_weighted_layer_sum": False, **only},
        tops={
            f"{title}ForCTC": Top(
                settings=(Key("vocab_size", "head.vocabulary", "vocabulary", default=32),),
                table=(*layer("head.project", "lm_head"),),
            ),
            f"{title}Model": Top(head=lambda config: None, prefix=""),
            f"{title}ForSequenceClassification": CLASSIFIES,
            **more,
        },
        unused=("*masked_spec_embed",),
    )


register(
    family(
        "wav2vec2", "Wav2Vec2",
        {
            "Wav2Vec2ForAudioFrameClassification": TAGS, "Wav2Vec2ForXVector": SPEAKS, "Wav2Vec2ForPreTraining": PREDICTS,
        },
        adapter_attn_dim=None,
    )
)  # fmt: skip
register(family("hubert", "Hubert", {}, feat_proj_layer_norm=True, conv_pos_batch_norm=False))
