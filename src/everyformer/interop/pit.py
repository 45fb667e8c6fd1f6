"""PiT, of timm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from everyformer.designs import Design
from everyformer.interop.config import Key, Square
from everyformer.interop.forms import Form, Wrapped
from everyformer.interop.pyramids import BLOCK, STAGE, Depths, Stages, maps, norms
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer


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


def facts(model: Any) -> dict[str, Any]:
    """What a timm `PoolingVisionTransformer` is."""
    conv, parts = model.patch_embed.conv, model.transformers
    return {
        "tokens": model.num_tokens,
        "classes": model.num_classes,
        "image": (model.pos_embed.shape[-1] - 1) * conv.stride[0] + conv.kernel_size[0],
        "patch": conv.kernel_size,
        "stride": conv.stride,
        "channels": conv.in_channels,
        "width": conv.out_channels,
        "depths": [len(each.blocks) for each in parts],
        "heads": [each.blocks[0].attn.num_heads for each in parts],
        "ratio": parts[0].blocks[0].mlp.fc1.out_features / conv.out_channels,
        "eps": model.norm.eps,
    }


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    block = "transformers.*.blocks.*"
    return [
        *layer("embedding.project", "patch_embed.conv"),
        Pair("embedding.first", ("cls_token",), Wrapped(1)),
        Pair("embedding.positions.table", ("pos_embed",), Map(design.get("embedding.positions.grid")[0])),
        *layer(f"{BLOCK}.mixer.qkv", f"{block}.attn.qkv"),
        *layer(f"{BLOCK}.mixer.output", f"{block}.attn.proj"),
        *maps(f"{block}.mlp.fc1", f"{block}.mlp.fc2"),
        *norms(f"{block}.norm1", f"{block}.norm2"),
        *layer(f"{STAGE}.enter.project", "transformers.*.pool.conv"),
        *layer(f"{STAGE}.enter.lead", "transformers.*.pool.fc"),
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="PoolingVisionTransformer",
        system="pit",
        facts=facts,
        settings=(
            Key("classes", "head.classes", "classes"),
            Key("image", "embedding.image", "image"),
            Square("patch", "embedding.kernel", "patch"),
            Square("stride", "embedding.stride", "stride"),
            Key("channels", "embedding.channels", "channels"),
            Key("width", "width", "width"),
            Depths(),
            Stages("heads", "blocks.*.mixer.heads", "heads"),
            Key("ratio", f"{BLOCK}.feedforward.ratio", "ratio"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        only={"tokens": 1},
        table=table,
    )
)
