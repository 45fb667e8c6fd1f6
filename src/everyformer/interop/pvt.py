"""PVT, PVT v2 and SegFormer's encoder from and to Hugging Face transformers, PVT v2 and Twins from and to timm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.interop.forms import Following, Form, Leading, Wrapped
from everyformer.interop.live_tables import side
from everyformer.interop.names import activation, only
from everyformer.interop.ways import Way, each_stage
from everyformer.interop.weights import Pair, layer
from everyformer.published.pvt import pvt, pvt_v2, segformer, twins

STAGE = "backbone.stages.*"
BLOCK = f"{STAGE}.blocks.*"


@dataclass(frozen=True)
class Fused(Form):
    """A query map and a map of keys and values, where ours is one of all three."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return torch.cat(list(theirs))

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Theirs, a third and two thirds of the rows."""
        return list(ours.split([len(ours) // 3, len(ours) // 3 * 2]))


def _sizes(config: Any) -> dict[str, Any]:
    """The options that the three configurations of Hugging Face share."""
    return {
        "classes": config.num_labels, "image": side("image", config.image_size), "channels": config.num_channels,
        "widths": tuple(config.hidden_sizes), "depths": tuple(config.depths),
        "heads": tuple(config.num_attention_heads), "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob, "drop_path": config.drop_path_rate,
        "eps": config.layer_norm_eps,
    }  # fmt: skip


def _attention(theirs: str, q: str, k: str, v: str, output: str, reduction: str, norm: str, bias: bool) -> list[Pair]:
    mixer = f"{BLOCK}.mixer"
    names = [f"{theirs}.{name}" for name in (q, k, v)]
    table = layer(f"{mixer}.query", names[0], bias=bias) + layer(f"{mixer}.key_value", *names[1:], bias=bias)
    table += layer(f"{mixer}.qkv", *names, bias=bias) + layer(f"{mixer}.output", f"{theirs}.{output}")
    table += layer(f"{mixer}.reduce.project", f"{theirs}.{reduction}")
    return table + layer(f"{mixer}.reduce.norm", f"{theirs}.{norm}")


def _rest(theirs: str, norms: Sequence[str], up: str, down: str) -> list[Pair]:
    table = layer(f"{BLOCK}.feedforward.up", f"{theirs}.{up}") + layer(f"{BLOCK}.feedforward.down", f"{theirs}.{down}")
    for k, norm in enumerate(norms):
        table += layer(f"{BLOCK}.residual.{k}.norm", f"{theirs}.{norm}")
    return table


def _patches(theirs: str, project: str, norm: str) -> list[Pair]:
    """Embedding and transitions, which their libraries make alike; `*` in `theirs` is the stage."""
    first = theirs.replace("*", "0")
    table = layer("embedding.project", f"{first}.{project}") + layer("embedding.norm", f"{first}.{norm}")
    table += layer(f"{STAGE}.enter.project", f"{theirs}.{project}")
    return table + layer(f"{STAGE}.enter.norm", f"{theirs}.{norm}")


def design(model: Any) -> Design:
    """The design of a `PvtForImageClassification`."""
    config = model.config
    each_stage(config, patch_sizes=[4, *[2] * (len(config.depths) - 1)], strides=[4, *[2] * (len(config.depths) - 1)])
    ratios, reductions = tuple(config.mlp_ratios), tuple(config.sequence_reduction_ratios)
    made = pvt(**_sizes(config), ratios=ratios, reductions=reductions)
    made = made.set(f"{BLOCK}.mixer.bias", config.qkv_bias)
    return made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's PVT."""
    body, last = "pvt.encoder", len(model.config.depths) - 1
    block, embedding = f"{body}.block.*.*", f"{body}.patch_embeddings"
    own = ("self.query", "self.key", "self.value", "output.dense", "self.sequence_reduction", "self.layer_norm")
    table = _attention(f"{block}.attention", *own, bias=model.config.qkv_bias)
    table += _rest(block, ("layer_norm_1", "layer_norm_2"), "mlp.dense1", "mlp.dense2")
    table += _patches(f"{embedding}.*", "projection", "layer_norm")
    for i in range(last):
        table.append(Pair(f"backbone.stages.{i}.places.table", (f"{embedding}.{i}.position_embeddings",), Wrapped(1)))
    names = f"{embedding}.{last}.cls_token", f"{embedding}.{last}.position_embeddings"
    table.append(Pair(f"backbone.stages.{last}.first", names, Leading()))
    table.append(Pair(f"backbone.stages.{last}.places.table", names[1:], Following(1, wrapped=True)))
    return table + layer("backbone.norm", f"{body}.layer_norm") + layer("head.classify", "classifier")


TRANSFORMERS = Way(design, pairs)
"""`PvtForImageClassification`."""


def design_v2(model: Any) -> Design:
    """The design of a `PvtV2ForImageClassification`."""
    config = model.config
    count = len(config.depths) - 1
    only(config, linear_attention=False)
    each_stage(config, patch_sizes=[7, *[3] * count], strides=[4, *[2] * count])
    made = pvt_v2(**_sizes(config), ratios=tuple(config.mlp_ratios), reductions=tuple(config.sr_ratios))
    made = made.set(f"{BLOCK}.mixer.bias", config.qkv_bias)
    return made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))


def pairs_v2(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's PVT v2."""
    stage = "pvt_v2.encoder.layers.*"
    block = f"{stage}.blocks.*"
    own = ("query", "key", "value", "proj", "spatial_reduction", "layer_norm")
    table = _attention(f"{block}.attention", *own, bias=model.config.qkv_bias)
    table += _rest(block, ("layer_norm_1", "layer_norm_2"), "mlp.dense1", "mlp.dense2")
    table += layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv.dwconv")
    table += _patches(f"{stage}.patch_embedding", "proj", "layer_norm")
    return table + layer(f"{STAGE}.norm", f"{stage}.layer_norm") + layer("head.classify", "classifier")


TRANSFORMERS_V2 = Way(design_v2, pairs_v2)
"""`PvtV2ForImageClassification`."""


def design_segformer(model: Any) -> Design:
    """The design of a `SegformerForImageClassification`; its embeddings and stages have an epsilon of their own."""
    config = model.config
    count = len(config.depths) - 1
    each_stage(config, patch_sizes=[7, *[3] * count], strides=[4, *[2] * count])
    ratio = config.mlp_ratios[0]
    each_stage(config, mlp_ratios=[ratio] * (count + 1))
    made = segformer(**_sizes(config), ratio=ratio, reductions=tuple(config.sr_ratios))
    return made.set(f"{BLOCK}.feedforward.activation", activation(config.hidden_act))


def pairs_segformer(model: Any) -> list[Pair]:
    """Which of our tensors is which of Hugging Face's SegFormer."""
    stage = "segformer.stages.*"
    block, reduction = f"{stage}.blocks.*", "sequence_reduction"
    own = ("q_proj", "k_proj", "v_proj", "o_proj", f"{reduction}.{reduction}", f"{reduction}.layer_norm")
    table = _attention(f"{block}.attention", *own, bias=True)
    table += _rest(block, ("layernorm_before", "layernorm_after"), "mlp.fc1", "mlp.fc2")
    table += layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv.dwconv")
    table += _patches(f"{stage}.patch_embeddings", "proj", "layer_norm")
    return table + layer(f"{STAGE}.norm", f"{stage}.layer_norm") + layer("head.classify", "classifier")


SEGFORMER = Way(design_segformer, pairs_segformer)
"""`SegformerForImageClassification`."""


def _timm_sizes(model: Any, stages: Sequence[Any]) -> dict[str, Any]:
    firsts = [blocks[-1] for blocks in stages]
    return {
        "classes": model.num_classes,
        "widths": tuple(each.norm1.normalized_shape[0] for each in firsts), "depths": tuple(map(len, stages)),
        "heads": tuple(each.attn.num_heads for each in firsts),
        "ratios": tuple(each.mlp.fc1.out_features / each.mlp.fc1.in_features for each in firsts),
        "reductions": tuple(max(map(_reduction, blocks)) for blocks in stages),
    }  # fmt: skip


def _reduction(block: Any) -> int:
    """The stride of its convolution; 1 for a block without, whose windows or tokens need none."""
    reduction = getattr(block.attn, "sr", None)
    return 1 if reduction is None else side("kernel", reduction.kernel_size)


def _timm_attention(theirs: str) -> list[Pair]:
    mixer, queries = f"{BLOCK}.mixer", (f"{theirs}.q", f"{theirs}.kv")
    table = layer(f"{mixer}.query", queries[0]) + layer(f"{mixer}.key_value", queries[1])
    table += layer(f"{mixer}.qkv", *queries, form=Fused()) + layer(f"{mixer}.output", f"{theirs}.proj")
    return table + layer(f"{mixer}.reduce.project", f"{theirs}.sr") + layer(f"{mixer}.reduce.norm", f"{theirs}.norm")


def timm_design_v2(model: Any) -> Design:
    """The design of a timm `PyramidVisionTransformerV2`."""
    made = pvt_v2(
        **_timm_sizes(model, [each.blocks for each in model.stages]), channels=model.patch_embed.proj.in_channels,
        eps=model.stages[0].norm.eps,
    )  # fmt: skip
    for path in ("embedding.norm", f"{STAGE}.enter.norm", f"{BLOCK}.mixer.reduce.norm"):
        made = made.set(f"{path}.eps", model.patch_embed.norm.eps)
    return made


def timm_pairs_v2(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's PVT v2."""
    block = "stages.*.blocks.*"
    table = _timm_attention(f"{block}.attn") + _rest(block, ("norm1", "norm2"), "mlp.fc1", "mlp.fc2")
    table += layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv")
    table += layer("embedding.project", "patch_embed.proj") + layer("embedding.norm", "patch_embed.norm")
    table += layer(f"{STAGE}.enter.project", "stages.*.downsample.proj")
    table += layer(f"{STAGE}.enter.norm", "stages.*.downsample.norm")
    return table + layer(f"{STAGE}.norm", "stages.*.norm") + layer("head.classify", "head")


TIMM_V2 = Way(timm_design_v2, timm_pairs_v2)
"""timm's `PyramidVisionTransformerV2`."""


def timm_design_twins(model: Any) -> Design:
    """The design of a timm `Twins`."""
    sizes = _timm_sizes(model, model.blocks)
    window = getattr(model.blocks[0][0].attn, "ws", None)
    channels = model.patch_embeds[0].proj.in_channels
    patch = side("patch", model.patch_embeds[0].patch_size)
    return twins(**sizes, window=window, channels=channels, patch=patch, eps=model.norm.eps)


def timm_pairs_twins(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's Twins; the block of positions is our second of each stage."""
    table = _patches("patch_embeds.*", "proj", "norm")
    table += layer(f"{STAGE}.blocks.1.mixer.conv", "pos_block.*.proj.0")
    shared = _timm_attention("blocks.*.*.attn") + _rest("blocks.*.*", ("norm1", "norm2"), "mlp.fc1", "mlp.fc2")
    shared += layer(f"{BLOCK}.mixer.mixer.qkv", "blocks.*.*.attn.qkv")
    shared += layer(f"{BLOCK}.mixer.mixer.output", "blocks.*.*.attn.proj")
    for j in range(max(map(len, model.blocks))):
        ours, theirs = f"{STAGE}.blocks.{j + (j > 0)}", f"blocks.*.{j}"
        table += [
            Pair(each.ours.replace(BLOCK, ours), tuple(n.replace("blocks.*.*", theirs) for n in each.theirs), each.form)
            for each in shared
        ]
    return table + layer("backbone.norm", "norm") + layer("head.classify", "head")


TWINS = Way(timm_design_twins, timm_pairs_twins)
"""timm's `Twins`."""
