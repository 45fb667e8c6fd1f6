"""Hiera, of timm."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Custom
from everyformer.interop.forms import Wrapped
from everyformer.interop.pyramids import Depths
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer

SAID = ("classes", "image", "channels", "width", "heads", "unit", "local", "ratio", "eps")
"""Facts that are options of the system."""


def facts(model: Any) -> dict[str, Any]:
    """What a timm `Hiera` is."""
    first = model.blocks[0]
    ends = [end + 1 for end in model.stage_ends]
    return {
        "one table of positions": model.pos_embed is not None and model.pos_embed_win is None,
        "classes": model.num_classes,
        "image": model.tokens_spatial_shape[0] * model.patch_stride[0],
        "channels": model.patch_embed.proj.in_channels,
        "width": first.attn.dim_out,
        "heads": first.attn.heads,
        "depths": [end - start for start, end in zip([0, *ends], ends)],
        "unit": model.mask_unit_size[0],
        # The first block of a stage attends as the stage before it does.
        "local": sum(model.blocks[start].attn.use_mask_unit_attn for start in ends[:-1]),
        "ratio": first.mlp.fc1.out_features / first.attn.dim_out,
        "eps": first.norm1.eps,
    }


def table(design: Design) -> list[Pair]:
    """All tensors of timm's; attention with pooled queries is our way into a stage."""
    found = [
        *layer("embedding.project", "patch_embed.proj"),
        Pair("embedding.positions.table", ("pos_embed",), Wrapped(1)),
    ]
    depths = [len(each.get("blocks")) for each in design.get("backbone.stages")]
    for stage, start in enumerate(accumulate(depths, initial=0)):
        for j in range(depths[stage] if stage < len(depths) else 0):
            ours, theirs, enters = f"backbone.stages.{stage}.blocks.{j}", f"blocks.{start + j}", bool(stage) and not j
            around = f"backbone.stages.{stage}.enter" if enters else ours
            for mixer in [around] if enters else [f"{ours}.mixer", f"{ours}.mixer.mixer"]:
                found += layer(f"{mixer}.qkv", f"{theirs}.attn.qkv") + layer(f"{mixer}.output", f"{theirs}.attn.proj")
            found += layer(f"{around}.norm" if enters else f"{ours}.residual.0.norm", f"{theirs}.norm1")
            found += layer(f"{around}.project", f"{theirs}.proj") if enters else []
            found += layer(f"{ours}.residual.{0 if enters else 1}.norm", f"{theirs}.norm2")
            found += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
            found += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
    return [*found, *layer("head.norm", "head.norm"), *layer("head.classify", "head.fc")]


register_timm(
    TimmFamily(
        name="Hiera",
        system="hiera",
        facts=facts,
        settings=(Depths(), Custom(lambda config: {name: config[name] for name in SAID}, lambda design: {})),
        only={"one table of positions": True},
        table=table,
    )
)
