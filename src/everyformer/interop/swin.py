"""Swin and Swin V2, of Hugging Face transformers and of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.embeddings import MaskedPatches
from everyformer.heads import Mean, PoolHead
from everyformer.interop.config import Config, Custom, Key, Labels, Square
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Joined, Wrapped
from everyformer.interop.pyramids import (
    ACTIVATION,
    BLOCK,
    CHANNELS,
    Depths,
    DropPath,
    Stages,
    maps,
    norms,
    stages,
)
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import fills_in
from everyformer.interop.weights import Pair, layer
from everyformer.published.upon import Make, upon
from everyformer.registry import find_system
from everyformer.specs import spec

MIXER = f"{BLOCK}.mixer.mixer"
LABELS = Labels("head.classes")
SETTINGS = (
    Square("image_size", "embedding.image", "image"),
    Square("patch_size", "embedding.patch", "patch"),
    CHANNELS,
    Key("embed_dim", "width", "width"),
    Depths(),
    Stages("num_heads", "blocks.*.mixer.mixer.heads", "heads"),
    Square("window_size", f"{BLOCK}.mixer.size", "window"),
    Key("mlp_ratio", f"{BLOCK}.feedforward.ratio", "ratio", default=4.0),
    ACTIVATION,
    Key("hidden_dropout_prob", "embedding.dropout", "dropout", default=0.0),
    Key("attention_probs_dropout_prob", f"{MIXER}.dropout", "attention_dropout", default=0.0),
    DropPath(),
)
"""What configs of both versions say of the body."""


def read_bias(config: Config) -> dict[str, Any]:
    """Without biases of queries, keys and values the output keeps its own."""
    return {} if config.get("qkv_bias", True) else {f"{MIXER}.bias": False, f"{MIXER}.output_bias": True}


def read_trained(config: Config) -> dict[str, Any]:
    """The windows that the weights come from, if others; zeros mean none."""
    windows = tuple(config.get("pretrained_window_sizes") or ())[: len(config["depths"])]
    return {"trained": windows if any(windows) else None}


def write_trained(design: Design) -> dict[str, Any]:
    """The windows, or zeros."""
    found = [design.get(f"backbone.stages.{i}.blocks.0.mixer.mixer.positions.trained") for i in range(stages(design))]
    return {"pretrained_window_sizes": [each or 0 for each in found]}


BIAS = Custom(read_bias, lambda design: {"qkv_bias": design.get(f"{MIXER}.bias".replace("*", "0"))})
TRAINED = Custom(read_trained, write_trained)


def body(design: Design) -> list[Pair]:
    """The tensors that both versions of Hugging Face share."""
    theirs = "encoder.layers.*.blocks.*"
    return [
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *layer("embedding.norm", "embeddings.norm"),
        *layer("embedding.seen_norm", "embeddings.norm"),
        *layer(f"{MIXER}.output", f"{theirs}.attention.output.dense"),
        *norms(f"{theirs}.layernorm_before", f"{theirs}.layernorm_after"),
        *maps(f"{theirs}.intermediate.dense", f"{theirs}.output.dense"),
        *merging(design, "encoder.layers.{}.downsample", first=0),
        *layer("backbone.norm", "layernorm"),
    ]


def merging(design: Design, theirs: str, first: int) -> list[Pair]:
    """The ways into the later stages; the first of theirs has the number `first`."""
    table: list[Pair] = []
    for i in range(1, stages(design)):
        ours, each = f"backbone.stages.{i}.enter", theirs.format(i - 1 + first)
        table += layer(f"{ours}.project", f"{each}.reduction", bias=False)
        table += layer(f"{ours}.norm", f"{each}.norm") + layer(f"{ours}.after", f"{each}.norm")
    return table


def offsets(own: str) -> Pair:
    """The table of biases by offset."""
    return Pair(f"{MIXER}.positions.table.weight", (f"{own}.relative_position_bias_table",), Joined(transposed=True))


def cosine(own: str, mlp: str, query: str, value: str) -> list[Pair]:
    """Sharpness, biases and the network of offsets of the second version."""
    return [
        Pair(f"{MIXER}.query_bias", (f"{own}.{query}",)),
        Pair(f"{MIXER}.value_bias", (f"{own}.{value}",)),
        Pair(f"{MIXER}.sharpness", (f"{own}.logit_scale",), Wrapped(after=2)),
        *layer(f"{MIXER}.positions.up", f"{own}.{mlp}.0"),
        *layer(f"{MIXER}.positions.down", f"{own}.{mlp}.2", bias=False),
    ]


OWN = "encoder.layers.*.blocks.*.attention.self"
QKV = [f"{OWN}.{name}" for name in ("query", "key", "value")]


def table(design: Design) -> list[Pair]:
    """The body of the first version."""
    return [*layer(f"{MIXER}.qkv", *QKV), offsets(OWN), *body(design)]


def table_v2(design: Design) -> list[Pair]:
    """The body of the second version."""
    own = cosine(OWN, "continuous_position_bias_mlp", "query.bias", "value.bias")
    return [*layer(f"{MIXER}.qkv", *QKV, bias=False), *own, *body(design)]


CLASSIFIER = Top(settings=(LABELS,), table=(*layer("head.classify", "classifier"),))
BARE = Top(head=lambda config: spec(PoolHead, pool=spec(Mean)), prefix="")
"""The mean of the cells."""
ONLY = {"layer_norm_eps": 1e-5, "use_absolute_embeddings": False}
UNUSED = ("*.relative_position_index", "*.relative_coords_table")

SWIN = register(
    Family(
        name="swin",
        system="swin",
        settings=(*SETTINGS, BIAS),
        table=table,
        prefix="swin",
        only=ONLY,
        tops={"SwinForImageClassification": CLASSIFIER, "SwinModel": BARE},
        unused=UNUSED,
    )
)
SWIN_V2 = register(
    Family(
        name="swinv2",
        system="swin-v2",
        settings=(*SETTINGS, TRAINED),
        table=table_v2,
        prefix="swinv2",
        only={**ONLY, "qkv_bias": True},
        tops={"Swinv2ForImageClassification": CLASSIFIER, "Swinv2Model": BARE},
        unused=UNUSED,
    )
)


def hiding(family: Family) -> Make:
    """What makes the same where some patches are hidden after the norm of the embedding."""

    @upon(find_system(family.system).make)
    def hidden(design: Design) -> Design:
        options = dict(design.get("embedding").options)
        return design.set("embedding", spec(MaskedPatches, seen_norm=options.pop("norm"), **options))

    return hidden


register(fills_in(SWIN, "SwinForMaskedImageModeling", "swin.embeddings.mask_token", hiding))
register(fills_in(SWIN_V2, "Swinv2ForMaskedImageModeling", "swinv2.embeddings.mask_token", hiding))


def facts(model: Any) -> dict[str, Any]:
    """What a timm `SwinTransformer` is, of either version."""
    blocks = [each.blocks[0] for each in model.layers]
    return {
        "num_labels": model.num_classes,
        "image_size": model.patch_embed.img_size,
        "patch_size": model.patch_embed.patch_size,
        "num_channels": model.patch_embed.proj.in_channels,
        "embed_dim": model.patch_embed.proj.out_channels,
        "depths": [len(each.blocks) for each in model.layers],
        "num_heads": [each.attn.num_heads for each in blocks],
        "window_size": blocks[0].attn.window_size,
        "pretrained_window_sizes": [getattr(each.attn, "pretrained_window_size", (0,))[0] for each in blocks],
        "mlp_ratio": blocks[0].mlp.fc1.out_features / blocks[0].mlp.fc1.in_features,
        "drop_path_rate": getattr(model.layers[-1].blocks[-1].drop_path2, "drop_prob", 0.0),
    }


def timm_body(design: Design) -> list[Pair]:
    """The tensors that both versions of timm share."""
    theirs = "layers.*.blocks.*"
    return [
        *layer("embedding.project", "patch_embed.proj"),
        *layer("embedding.norm", "patch_embed.norm"),
        *layer(f"{MIXER}.output", f"{theirs}.attn.proj"),
        *norms(f"{theirs}.norm1", f"{theirs}.norm2"),
        *maps(f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"),
        *merging(design, "layers.{}.downsample", first=1),
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head.fc"),
    ]


def timm_table(design: Design) -> list[Pair]:
    """All tensors of timm's first version."""
    own = "layers.*.blocks.*.attn"
    return [*layer(f"{MIXER}.qkv", f"{own}.qkv"), offsets(own), *timm_body(design)]


def timm_table_v2(design: Design) -> list[Pair]:
    """All tensors of timm's second version."""
    own = "layers.*.blocks.*.attn"
    learned = cosine(own, "cpb_mlp", "q_bias", "v_bias")
    return [*layer(f"{MIXER}.qkv", f"{own}.qkv", bias=False), *learned, *timm_body(design)]


register_timm(
    TimmFamily(name="SwinTransformer", system="swin", facts=facts, settings=(LABELS, *SETTINGS), table=timm_table)
)
register_timm(
    TimmFamily(
        name="SwinTransformerV2",
        system="swin-v2",
        facts=facts,
        settings=(LABELS, *SETTINGS, TRAINED),
        table=timm_table_v2,
    )
)
