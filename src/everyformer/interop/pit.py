"""PiT to and from timm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.interop.forms import Form, Wrapped
from everyformer.interop.live_tables import side
from everyformer.interop.ways import Way
from everyformer.interop.weights import Pair, layer
from everyformer.published.pit import pit


@dataclass(frozen=True)
class Map(Form):
    """A map of positions (1, D, rows, columns), where ours is (cells, D)."""

    rows: int

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our table."""
        return theirs[0][0].flatten(1).mT

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Their map."""
        return [ours.mT.unflatten(1, (self.rows, -1))[None]]


def design(model: Any) -> Design:
    """The design of a timm `PoolingVisionTransformer` with one leading token."""
    if model.num_tokens != 1:
        raise BadInput(f"expected one leading token; given {model.num_tokens}; give a PiT that is not distilled")
    conv, stages = model.patch_embed.conv, model.transformers
    patch, stride = side("patch", conv.kernel_size), side("stride", conv.stride)
    return pit(
        classes=model.num_classes,
        image=(model.pos_embed.shape[-1] - 1) * stride + patch,
        patch=patch,
        stride=stride,
        channels=conv.in_channels,
        width=conv.out_channels,
        depths=tuple(len(each.blocks) for each in stages),
        heads=tuple(each.blocks[0].attn.num_heads for each in stages),
        ratio=stages[0].blocks[0].mlp.fc1.out_features / conv.out_channels,
        eps=model.norm.eps,
    )


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of timm's."""
    table = layer("embedding.project", "patch_embed.conv")
    table.append(Pair("embedding.first", ("cls_token",), Wrapped(1)))
    table.append(Pair("embedding.positions.table", ("pos_embed",), Map(model.pos_embed.shape[-2])))
    ours, theirs = "backbone.stages.*.blocks.*", "transformers.*.blocks.*"
    table += layer(f"{ours}.mixer.qkv", f"{theirs}.attn.qkv") + layer(f"{ours}.mixer.output", f"{theirs}.attn.proj")
    table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
    table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
    for k in (0, 1):
        table += layer(f"{ours}.residual.{k}.norm", f"{theirs}.norm{k + 1}")
    table += layer("backbone.stages.*.enter.project", "transformers.*.pool.conv")
    table += layer("backbone.stages.*.enter.lead", "transformers.*.pool.fc")
    return table + layer("backbone.norm", "norm") + layer("head.classify", "head")


TIMM = Way(design, pairs)
"""timm's `PoolingVisionTransformer`."""
