"""Mamba-2."""

from __future__ import annotations

import math
from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.config import Config, Custom, Depth, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.llama import tied, write_tied
from everyformer.interop.weights import Pair, layer

BLOCK = "backbone.blocks.*"
SINGLE = {"step_bias": "dt_bias", "rate": "A_log", "skip": "D", "scale": "norm.weight"}
"""Our tensors of a mixer and theirs."""


def heads(config: Config) -> dict[str, Any]:
    """The width of a head; their limit of step sizes (infinity is a dictionary in their files) must limit nothing."""
    said = config.get("time_step_limit", (0.0, math.inf))
    limit = [float(each["__float__"] if isinstance(each, dict) else each) for each in said]
    if limit != [0.0, math.inf]:
        raise DoesNotFit(f"the config has time_step_limit={limit}, and the system here has no limit")
    return {"head_width": config.value("head_dim", 64)}


def write_heads(design: Design) -> dict[str, Any]:
    """Heads and their width."""
    mixer = design.get("backbone.blocks.0.mixer")
    return {
        "num_heads": mixer.get("heads"), "head_dim": mixer.get("expand") * design.get("width") // mixer.get("heads"),
    }  # fmt: skip


def table(design: Design) -> list[Pair]:
    """The body."""
    own = f"{BLOCK}.mixer"
    return [
        *layer("embedding.table", "embeddings", bias=False),
        *layer(f"{BLOCK}.residual.0.norm", "layers.*.norm", bias=False),
        *layer(f"{own}.project", "layers.*.mixer.in_proj"),
        *layer(f"{own}.convolution", "layers.*.mixer.conv1d"),
        *(Pair(f"{own}.{name}", (f"layers.*.mixer.{theirs}",)) for name, theirs in SINGLE.items()),
        *layer(f"{own}.output", "layers.*.mixer.out_proj"),
        *layer("backbone.norm", "norm_f", bias=False),
    ]


register(
    Family(
        name="mamba2",
        system="mamba-2",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Depth("num_hidden_layers", "backbone.blocks"),
            Custom(heads, write_heads),
            Key("expand", f"{BLOCK}.mixer.expand", "expand", default=2),
            Key("state_size", f"{BLOCK}.mixer.state", "state", default=128),
            Key("n_groups", f"{BLOCK}.mixer.groups", "groups", default=8),
            Key("conv_kernel", f"{BLOCK}.mixer.kernel", "kernel", default=4),
            Key("use_bias", f"{BLOCK}.mixer.bias", "bias", default=False),
            Key("use_conv_bias", f"{BLOCK}.mixer.convolution_bias", "convolution_bias", default=True),
            Key("layer_norm_epsilon", "backbone.norm.eps", "eps", default=1e-5),
        ),
        table=table,
        prefix="backbone",
        only={"hidden_act": "silu"},
        tops={
            "Mamba2ForCausalLM": Top(
                settings=(Custom(tied, write_tied),), table=(*layer("head.project", "lm_head", bias=False),)
            ),
            "Mamba2Model": Top(head=lambda config: None, prefix=""),
        },
    )
)
