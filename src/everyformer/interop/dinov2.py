"""DINOv2, with and without registers."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.feedforward import Gated
from everyformer.interop.config import Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following, Registered
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import BLOCK, ENCODER, OUTPUT, PICTURE, QKV, leading
from everyformer.interop.weights import Pair, layer

FEEDFORWARD = f"{BLOCK}.feedforward"


def gated(design: Design) -> bool:
    """Whether the feedforwards are SwiGLU."""
    return design.get("backbone.blocks.0.feedforward").part is Gated


def feedforward(config: Config) -> dict[str, Any]:
    """Ratio and kind; SwiGLU has no activation to choose."""
    kind = {"ratio": config.get("mlp_ratio", 4), "gated": config.get("use_swiglu_ffn", False)}
    return kind if kind["gated"] else {**kind, f"{FEEDFORWARD}.activation": ACTIVATIONS[config["hidden_act"]]}


def write_feedforward(design: Design) -> dict[str, Any]:
    """The ratio of an MLP's hidden width; SwiGLU's is two thirds of that of the ratio 4, made a multiple of 8."""
    hidden, width = design.get("backbone.blocks.0.feedforward.hidden"), design.get("width")
    if gated(design):
        return {"use_swiglu_ffn": True, "mlp_ratio": 4, "hidden_act": "gelu"}
    acts = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    act = acts[design.get("backbone.blocks.0.feedforward.activation")]
    return {"use_swiglu_ffn": False, "mlp_ratio": hidden // width, "hidden_act": act}


def blocks(design: Design) -> list[Pair]:
    """What both kinds share."""
    up, down = ("weights_in", "weights_out") if gated(design) else ("fc1", "fc2")
    found = [*layer(f"{BLOCK}.mixer.qkv", *QKV), *OUTPUT]
    found += layer(f"{FEEDFORWARD}.up", f"encoder.layer.*.mlp.{up}")
    found += layer(f"{FEEDFORWARD}.down", f"encoder.layer.*.mlp.{down}")
    for k in (0, 1):
        found += layer(f"{BLOCK}.residual.{k}.norm", f"encoder.layer.*.norm{k + 1}")
        factor = f"{BLOCK}.residual.{k}.branches.0.factor"
        found.append(Pair(factor, (f"encoder.layer.*.layer_scale{k + 1}.lambda1",)))
    return [
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *found,
        *layer("backbone.norm", "layernorm"),
    ]


def table(design: Design) -> list[Pair]:
    """The body."""
    return [*leading("embeddings.cls_token", positions="embeddings.position_embeddings"), *blocks(design)]


def registered(design: Design) -> list[Pair]:
    """The body with registers, which have no positions."""
    positions = "embeddings.position_embeddings"
    first = "embeddings.cls_token", "embeddings.register_tokens", positions
    return [
        Pair("embedding.first", first, Registered()),
        Pair("embedding.positions.table", (positions,), Following(1, wrapped=True)),
        *blocks(design),
    ]


SETTINGS = (
    *(each for each in ENCODER if getattr(each, "theirs", "") not in ("intermediate_size", "hidden_act")),
    *PICTURE,
    Custom(feedforward, write_feedforward),
    Key("layerscale_value", f"{BLOCK}.residual.branches.0.start", "scale", default=1.0),
)
REGISTERS = Custom(
    lambda config: {"registers": config.get("num_register_tokens", 4)},
    lambda design: {"num_register_tokens": design.get("embedding.first") - 1},
)
for name, body, settings, kind in (
    ("dinov2", table, SETTINGS, "Dinov2"),
    ("dinov2_with_registers", registered, (*SETTINGS, REGISTERS), "Dinov2WithRegisters"),
):
    register(
        Family(
            name=name,
            system="dinov2",
            settings=settings,
            table=body,
            prefix=name,
            tops={
                f"{kind}ForImageClassification": Top(
                    settings=(Labels("head.classes"),), table=(*layer("head.classify", "classifier"),)
                ),
                f"{kind}Model": Top(prefix=""),
            },
            unused=("*mask_token",),
        )
    )
