"""The baselines of MetaFormer, of timm; their first two, which timm has no names for, are its class with other mixers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from everyformer.designs import Design
from everyformer.heads import MLPHead
from everyformer.interop.config import Key, Labels
from everyformer.interop.poolformer import mixers
from everyformer.interop.pyramids import BLOCK, CHANNELS, STAGE, Depths, Widths, norms, pointwise, stages
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer
from everyformer.mixers import Attention


def facts(model: Any) -> dict[str, Any]:
    """What all of them are."""
    return {
        "num_labels": model.num_classes,
        "num_channels": model.stem.conv.in_channels,
        "hidden_sizes": [each.blocks[0].mlp.fc1.in_channels if each.use_nchw else each.blocks[0].mlp.fc1.in_features
                         for each in model.stages],
        "depths": [len(each.blocks) for each in model.stages],
        "stride": model.stem.conv.stride[0],
    }  # fmt: skip


def random_facts(model: Any) -> dict[str, Any]:
    """The size of picture that the matrix of the last stage stands for, besides."""
    last, stride = len(model.stages) - 1, model.stem.conv.stride[0]
    side = math.isqrt(len(model.stages[last].blocks[0].token_mixer.random_matrix))
    return {**facts(model), "image": side * stride * 2**last}


def attention_facts(model: Any) -> dict[str, Any]:
    """The width of a head, besides."""
    return {**facts(model), "head_width": model.stages[-1].blocks[0].token_mixer.head_dim}


def table(design: Design) -> list[Pair]:
    """All tensors of all of them; stages of attention have linear maps, the others convolutions of one cell."""
    theirs = "stages.*.blocks.*"
    found = [
        *layer("embedding.project", "stem.conv"),
        *layer("embedding.norm", "stem.norm"),
        *layer(f"{STAGE}.enter.project", "stages.*.downsample.conv"),
        *layer(f"{STAGE}.enter.before", "stages.*.downsample.norm"),
        *norms(f"{theirs}.norm1", f"{theirs}.norm2"),
        *(Pair(f"{BLOCK}.residual.{k}.factor", (f"{theirs}.res_scale{k + 1}.scale",)) for k in (0, 1)),
        *star(f"{BLOCK}.feedforward.activation", f"{theirs}.mlp.act"),
        *star(f"{BLOCK}.mixer.before", f"{theirs}.token_mixer.act1"),
        *layer(f"{BLOCK}.mixer.conv", f"{theirs}.token_mixer.dwconv"),
        Pair(f"{BLOCK}.mixer.matrix", (f"{theirs}.token_mixer.random_matrix",)),
        *layer("head.norm", "head.norm"),
        *layer("head.hidden", "head.fc.fc1"),
        *layer("head.after", "head.fc.norm"),
        *layer("head.classify", "head.fc.fc2" if design.get("head").part is MLPHead else "head.fc"),
    ]
    for i in range(stages(design)):
        ours, own = f"backbone.stages.{i}.blocks.*", f"stages.{i}.blocks.*"
        attends = design.get(f"backbone.stages.{i}.blocks.0.mixer").part is Attention
        each = layer if attends else pointwise
        names = ("qkv", "output"), ("qkv", "proj")
        for a, b in zip(*(names if attends else (("up", "down"), ("pwconv1", "pwconv2"))), strict=True):
            found += each(f"{ours}.mixer.{a}", f"{own}.token_mixer.{b}")
        for a, b in (("up", "fc1"), ("down", "fc2")):
            found += each(f"{ours}.feedforward.{a}", f"{own}.mlp.{b}")
    return found


def star(ours: str, theirs: str) -> list[Pair]:
    """A StarReLU."""
    return [Pair(f"{ours}.scale", (f"{theirs}.scale",)), Pair(f"{ours}.shift", (f"{theirs}.bias",))]


SETTINGS = (
    Labels("head.classes"),
    CHANNELS,
    Widths(),
    Depths(),
    Key("stride", "embedding.stride", "stride"),
)


def made_of(*names: str) -> Callable[[Any], bool]:
    """Whether a model has mixers of these classes and no others."""
    return lambda model: mixers(model) == set(names)


register_timm(
    TimmFamily("MetaFormer", "identityformer", facts, SETTINGS, table, fits=made_of("Identity")),
)
register_timm(
    TimmFamily(
        "MetaFormer",
        "randformer",
        random_facts,
        (*SETTINGS, Key("image", "embedding.image", "image")),
        table,
        fits=made_of("Identity", "RandomMixing"),
    )
)
register_timm(
    TimmFamily("MetaFormer", "convformer", facts, SETTINGS, table, fits=made_of("SepConv")),
)
register_timm(
    TimmFamily(
        "MetaFormer",
        "caformer",
        attention_facts,
        (*SETTINGS, Key("head_width", "backbone.stages.3.blocks.0.mixer.heads", "head_width")),
        table,
        fits=made_of("SepConv", "Attention"),
    )
)
