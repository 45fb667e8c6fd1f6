"""Hiera to and from timm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.interop.forms import Wrapped
from everyformer.interop.ways import Way
from everyformer.interop.weights import Pair, layer
from everyformer.published.hiera import hiera


def design(model: Any) -> Design:
    """The design of a timm `Hiera` whose positions are one table."""
    if model.pos_embed is None:
        raise BadInput(
            "expected one table of positions; given positions of windows and of the whole; take a plain Hiera"
        )
    first, unit = model.blocks[0], model.mask_unit_size[0]
    count = model.tokens_spatial_shape[0]
    starts = _starts(model)
    ends = [*starts[1:], len(model.blocks)]
    return hiera(
        classes=model.num_classes,
        image=count * 4,
        channels=model.patch_embed.proj.in_channels,
        width=first.attn.dim_out,
        heads=first.attn.heads,
        depths=tuple(end - start for start, end in zip(starts, ends)),
        unit=unit,
        # The first block of a stage attends as the stage before it does.
        local=sum(model.blocks[start].attn.use_mask_unit_attn for start in starts[1:]),
        ratio=first.mlp.fc1.out_features / first.attn.dim_out,
        eps=first.norm1.eps,
    )


def _starts(model: Any) -> list[int]:
    """The first block of each stage."""
    return [0, *(end + 1 for end in model.stage_ends[:-1])]


def _blocks(model: Any) -> Iterator[tuple[str, str, bool]]:
    """Our block, theirs, and whether it is the first of a later stage."""
    starts = _starts(model)
    for stage, start in enumerate(starts):
        end = [*starts[1:], len(model.blocks)][stage]
        for j in range(end - start):
            yield f"backbone.stages.{stage}.blocks.{j}", f"blocks.{start + j}", stage > 0 and j == 0


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's; attention with pooled queries is our way into a stage."""
    table = layer("embedding.project", "patch_embed.proj")
    table.append(Pair("embedding.positions.table", ("pos_embed",), Wrapped(1)))
    for ours, theirs, enters in _blocks(model):
        around = f"{ours.rpartition('.blocks.')[0]}.enter" if enters else ours
        mixers = [around] if enters else [f"{ours}.mixer", f"{ours}.mixer.mixer"]
        for mixer in mixers:
            table += layer(f"{mixer}.qkv", f"{theirs}.attn.qkv") + layer(f"{mixer}.output", f"{theirs}.attn.proj")
        if enters:
            table += layer(f"{around}.project", f"{theirs}.proj") + layer(f"{around}.norm", f"{theirs}.norm1")
        else:
            table += layer(f"{ours}.residual.0.norm", f"{theirs}.norm1")
        table += layer(f"{ours}.residual.{0 if enters else 1}.norm", f"{theirs}.norm2")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
    return table + layer("head.norm", "head.norm") + layer("head.classify", "head.fc")


TIMM = Way(design, pairs)
"""timm's `Hiera`."""
