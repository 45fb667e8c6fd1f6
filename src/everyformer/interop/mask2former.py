"""Mask2Former on Swin, of Hugging Face transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.heads import MaskedStates
from everyformer.interop import swin
from everyformer.interop.config import Always, Both, Config, Custom, Depth, Key, Labels, Within
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Rows
from everyformer.interop.pyramids import stages
from everyformer.interop.weights import Pair, layer
from everyformer.published.masks import mask2former
from everyformer.published.upon import upon
from everyformer.specs import Spec

HIDDEN = Key("feature_size", "head.hidden", "hidden", default=256)


def read_body(config: Config) -> dict[str, Any]:
    """Nothing; a body that is no Swin, or does not hand on all its stages, is refused."""
    if config.value("model_type", "swin") != "swin":
        raise DoesNotFit(f"this system is a Swin with a head; the body of the checkpoint is a '{config['model_type']}'")
    named = [f"stage{i + 1}" for i in range(len(config.value("depths")))]
    config.only({**swin.ONLY, "out_features": named})
    return {}


def write_body(design: Design) -> dict[str, Any]:
    """What a Swin that hands on all its stages says."""
    named = [f"stage{i + 1}" for i in range(stages(design))]
    return {**swin.ONLY, "model_type": "swin", "out_features": named}


def read_depth(config: Config) -> dict[str, Any]:
    """The blocks of the decoder; theirs counts what queries say before the first one too."""
    config = Config({"blocks": config.value("decoder_layers", 10) - 1}, config.names)
    return Depth("blocks", "head.blocks", "decoder_depth").read(config)


def write_depth(design: Design) -> dict[str, Any]:
    """The blocks and one."""
    return {"decoder_layers": len(design.get("head.blocks")) + 1}


def attention(ours: str, theirs: str) -> list[Pair]:
    """The maps of queries, keys and values in one tensor of torch's attention."""
    return [
        Pair(f"{ours}.{name}.{kind}", (f"{theirs}.in_proj_{kind}",), Rows(i, i + 1, 3))
        for i, name in enumerate(("query", "key", "value"))
        for kind in ("weight", "bias")
    ]


def table(design: Design) -> list[Pair]:
    """The body, the pixel decoder and the decoder of queries."""
    body, pixels, decoder = "pixel_level_module.encoder", "pixel_level_module.decoder", "transformer_module.decoder"
    ours, theirs = "head.pixels.body.blocks.*", f"{pixels}.encoder.layers.*"
    asking, answering = "head.blocks.*", f"{decoder}.layers.*"
    pairs = [pair.under(f"{body}.") for pair in swin.table(design)]
    for i in range(stages(design)):
        pairs += layer(f"head.level_norm.{i}", f"{body}.hidden_states_norms.stage{i + 1}")
        for step, kind in ((0, "conv"), (1, "norm")):
            pairs += layer(f"head.pixels.lateral.{i}.{step}", f"{pixels}.adapter_{i + 1}.{step}", bias=kind == "norm")
            pairs += layer(f"head.pixels.smooth.{i}.{step}", f"{pixels}.layer_{i + 1}.{step}", bias=kind == "norm")
    for place, name in (("offsets", "sampling_offsets"), ("shares", "attention_weights")):
        pairs += layer(f"{ours}.mixer.{place}", f"{theirs}.self_attn.{name}")
    return [
        *pairs,
        *layer(f"{ours}.mixer.value", f"{theirs}.self_attn.value_proj"),
        *layer(f"{ours}.mixer.output", f"{theirs}.self_attn.output_proj"),
        *layer(f"{ours}.feedforward.up", f"{theirs}.fc1"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.fc2"),
        *layer(f"{ours}.residual.0.norm", f"{theirs}.self_attn_layer_norm"),
        *layer(f"{ours}.residual.1.norm", f"{theirs}.final_layer_norm"),
        *layer("head.pixels.project.*.*", f"{pixels}.input_projections.*.*"),
        Pair("head.pixels.level.weight", (f"{pixels}.level_embed",)),
        *layer("head.pixels.cells", f"{pixels}.mask_projection"),
        *attention(f"{asking}.cross.0", f"{answering}.cross_attn"),
        *layer(f"{asking}.cross.0.output", f"{answering}.cross_attn.out_proj"),
        *layer(f"{asking}.cross.1.query_key", f"{answering}.self_attn.q_proj", f"{answering}.self_attn.k_proj"),
        *layer(f"{asking}.cross.1.value", f"{answering}.self_attn.v_proj"),
        *layer(f"{asking}.cross.1.output", f"{answering}.self_attn.out_proj"),
        *layer(f"{asking}.feedforward.up", f"{answering}.fc1"),
        *layer(f"{asking}.feedforward.down", f"{answering}.fc2"),
        *layer(f"{asking}.residual.0.norm", f"{answering}.cross_attn_layer_norm"),
        *layer(f"{asking}.residual.1.norm", f"{answering}.self_attn_layer_norm"),
        *layer(f"{asking}.residual.2.norm", f"{answering}.final_layer_norm"),
        *layer("head.norm", f"{decoder}.layernorm"),
        *layer("head.mask.*", f"{decoder}.mask_predictor.mask_embedder.*.0"),
        *layer("head.level", "transformer_module.level_embed", bias=False),
        *layer("head.places", "transformer_module.queries_embedder", bias=False),
        *layer("head.queries", "transformer_module.queries_features", bias=False),
    ]


FAMILY = register(
    Family(
        name="mask2former",
        system="mask2former",
        settings=(
            Within("backbone_config", (*swin.SETTINGS, swin.BIAS, Custom(read_body, write_body))),
            Both(HIDDEN, "mask_feature_size"),
            Both(HIDDEN, "hidden_dim"),
            Depth("encoder_layers", "head.pixels.body.blocks", "pixel_depth", default=6),
            Custom(read_depth, write_depth),
            Key("encoder_feedforward_dim", "head.pixels.body.blocks.*.feedforward.hidden", "pixel_mlp", default=1024),
            Key("dim_feedforward", "head.blocks.*.feedforward.hidden", "mlp", default=2048),
            Key("num_attention_heads", "head.blocks.*.cross.0.heads", "decoder_heads", default=8),
            Key("num_queries", "head.queries", "queries", default=100),
            Always("levels", 3),
        ),
        table=table,
        prefix="model",
        only={
            "activation_function": "relu", "common_stride": 4, "dropout": 0.0, "enforce_input_projection": False,
            "feature_strides": [4, 8, 16, 32], "pre_norm": False,
        },
        tops={
            "Mask2FormerForUniversalSegmentation": Top(
                settings=(Labels("head.classes"),), table=(*layer("head.classify", "class_predictor"),)
            )
        },
        unused=(*swin.UNUSED, "*.encoder.swin.layernorm.*", "criterion.empty_weight"),
    )
)  # fmt: skip


@upon(mask2former)
def states(design: Design) -> Design:
    """The same without classes: the answer is what became of the queries."""
    options = {name: option for name, option in design.get("head").options.items() if name != "classes"}
    return design.set("head", Spec(MaskedStates, options))


register(replace(FAMILY, make=states, tops={"Mask2FormerModel": Top(prefix="")}))
