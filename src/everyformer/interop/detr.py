"""DETR on a residual network of Hugging Face transformers; on one of timm it is read, and written as the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.errors import UnknownName
from everyformer.heads import Queries
from everyformer.interop.config import Both, Config, Custom, Depth, Key, Labels, Only
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Uncounted
from everyformer.interop.weights import Pair, batch_norm, layer
from everyformer.published.detection import detr
from everyformer.published.upon import upon
from everyformer.specs import spec

NETWORK, STAGES = "backbone.conv_encoder.model", "backbone.stages"
DECODE = "head.body.blocks.*"
RESNET = {
    "model_type": "resnet", "layer_type": "bottleneck", "hidden_act": "relu", "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}  # fmt: skip
"""What a residual network must be."""
TIMM = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def sizes(stem: int, stages: int) -> list[int]:
    """The widths of its stages."""
    return [stem * 4 * 2**i for i in range(stages)]


def network(config: Config) -> dict[str, Any]:
    """Its stages, of which the last is read."""
    said = config.get("backbone_config")
    if config.get("use_timm_backbone", said is None):
        name = config.get("backbone") or "resnet50"
        if name not in TIMM:
            raise UnknownName("backbone of timm", str(name), TIMM)
        return {"convs": TIMM[name], "channels": config.value("num_channels", 3)}
    inner = Config(said or {})
    inner.only(RESNET)
    stem, convs = inner.value("embedding_size", 64), tuple(inner.value("depths", (3, 4, 6, 3)))
    inner.only({"hidden_sizes": sizes(stem, len(convs)), "out_features": [f"stage{len(convs)}"]})
    return {"stem": stem, "convs": convs, "channels": inner.value("num_channels", 3)}


def write_network(design: Design) -> dict[str, Any]:
    """The same."""
    stem = design.get("width")
    convs = [stage.get("enter").get("depth") for stage in design.get(STAGES)[:-1]]
    inner = {
        **RESNET, "embedding_size": stem, "hidden_sizes": sizes(stem, len(convs)), "depths": convs,
        "num_channels": design.get("embedding.channels"), "out_features": [f"stage{len(convs)}"],
    }  # fmt: skip
    return {"backbone_config": inner, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}


def encoder(config: Config) -> dict[str, Any]:
    """Width and depth of the blocks behind the network."""
    return {"width": config.value("d_model", 256), "depth": config.value("encoder_layers", 6)}


def write_encoder(design: Design) -> dict[str, Any]:
    """The same, from the last stage."""
    last = design.get(STAGES)[-1]
    return {"d_model": last.get("to"), "encoder_layers": len(last.get("blocks"))}


def attention(ours: str, theirs: str, *, own: bool) -> list[Pair]:
    """Queries, keys and values; those of the tokens' `own` attention have queries and keys in one map."""
    q, k, v = (f"{theirs}.{name}_proj" for name in "qkv")
    joined = layer(f"{ours}.query_key", q, k) if own else [*layer(f"{ours}.query", q), *layer(f"{ours}.key", k)]
    return [*joined, *layer(f"{ours}.value", v), *layer(f"{ours}.output", f"{theirs}.out_proj")]


def blocks(ours: str, theirs: str, *norms: str) -> list[Pair]:
    """The layers of a stack, in which `norms` stand around its parts."""
    return [
        *attention(f"{ours}.mixer", f"{theirs}.self_attn", own=True),
        *attention(f"{ours}.cross.0", f"{theirs}.encoder_attn", own=False),
        *layer(f"{ours}.feedforward.up", f"{theirs}.fc1"),
        *layer(f"{ours}.feedforward.down", f"{theirs}.fc2"),
        *(pair for k, norm in enumerate(norms) for pair in layer(f"{ours}.residual.{k}.norm", f"{theirs}.{norm}")),
    ]


def frozen(ours: str, theirs: str) -> list[Pair]:
    """A batch norm, which theirs never trains."""
    *pairs, count = batch_norm(ours, theirs)
    return [*pairs, Pair(count.ours, (), Uncounted())]


def convolved(conv: str, norm: str, theirs: str) -> list[Pair]:
    """A convolution without bias and the norm after it."""
    return [*layer(conv, f"{theirs}.convolution", bias=False), *frozen(norm, f"{theirs}.normalization")]


def timm_layer(conv: str, norm: str, theirs: str, number: str = "") -> list[Pair]:
    """The same in timm's names."""
    return [*layer(conv, f"{NETWORK}.{theirs}conv{number}", bias=False), *frozen(norm, f"{NETWORK}.{theirs}bn{number}")]


def timm_network(stages: int) -> list[Pair]:
    """The network in timm's names."""
    pairs = timm_layer("embedding.conv", "embedding.norm", "", "1")
    for i in range(stages):
        ours, theirs = f"{STAGES}.{i}.enter.blocks.*", f"layer{i + 1}.*"
        for k in range(3):
            pairs += timm_layer(f"{ours}.convs.{k}.0", f"{ours}.convs.{k}.1", f"{theirs}.", f"{k + 1}")
        pairs += layer(f"{ours}.short.0", f"{NETWORK}.{theirs}.downsample.0", bias=False)
        pairs += frozen(f"{ours}.short.1", f"{NETWORK}.{theirs}.downsample.1")
    return pairs


def table(design: Design) -> list[Pair]:
    """The network, both stacks and the queries."""
    ours, theirs = f"{STAGES}.*.enter.blocks.*", f"{NETWORK}.encoder.stages.*.layers.*"
    last = len(design.get(STAGES)) - 1
    first, final = "self_attn_layer_norm", "final_layer_norm"
    return [
        *convolved("embedding.conv", "embedding.norm", f"{NETWORK}.embedder.embedder"),
        *(
            pair
            for k in range(3)
            for pair in convolved(f"{ours}.convs.{k}.0", f"{ours}.convs.{k}.1", f"{theirs}.layer.{k}")
        ),
        *convolved(f"{ours}.short.0", f"{ours}.short.1", f"{theirs}.shortcut"),
        *layer(f"{STAGES}.{last}.enter.project", "input_projection"),
        *blocks(f"{STAGES}.{last}.blocks.*", "encoder.layers.*", first, final),
        *blocks(DECODE, "decoder.layers.*", first, "encoder_attn_layer_norm", final),
        *timm_network(last),
        Pair("head.queries", ("query_position_embeddings.weight",)),
        *layer("head.norm", "decoder.layernorm"),
    ]


FAMILY = register(
    Family(
        name="detr",
        system="detr",
        settings=(
            Custom(network, write_network),
            Custom(encoder, write_encoder),
            Depth("decoder_layers", "head.body.blocks", "decoder_depth", default=6),
            Both(
                Key("encoder_attention_heads", f"{DECODE}.mixer.heads", "heads", default=8), "decoder_attention_heads"
            ),
            Both(Key("encoder_ffn_dim", f"{DECODE}.feedforward.hidden", "hidden", default=2048), "decoder_ffn_dim"),
            Key("dropout", f"{DECODE}.residual.dropout", "dropout", default=0.1),
            Key("num_queries", "head.queries", "queries", default=100),
            Only(activation_function="relu", position_embedding_type="sine", dilation=False),
        ),
        table=table,
        prefix="model",
        tops={
            "DetrForObjectDetection": Top(
                settings=(Labels("head.classes"),),
                table=(
                    *layer("head.classify", "class_labels_classifier"),
                    *layer("head.box.*", "bbox_predictor.layers.*"),
                ),
            )
        },
        unused=("*.num_batches_tracked",),
    )
)


@upon(detr)
def queries(design: Design) -> Design:
    """The same without boxes: the answer is what became of the queries."""
    head = design.get("head")
    return design.set("head", spec(Queries, **{name: head.get(name) for name in ("body", "norm", "queries")}))


register(replace(FAMILY, make=queries, tops={"DetrModel": Top(prefix="")}))
