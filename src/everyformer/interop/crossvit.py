"""CrossViT, of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Key, Setting
from everyformer.interop.forms import Following, Leading
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import TIMM_BLOCKS
from everyformer.interop.weights import Pair, layer

PLACES = {
    "classes": "heads.0.classes", "image": "embeddings.0.image", "small_image": "embeddings.1.image",
    "channels": "embeddings.0.channels", "heads": "stages.0.0.blocks.0.mixer.heads", "eps": "norm.eps",
    "patches": "embeddings", "width": "widths", "narrow": "widths", "depth": "stages", "narrow_depth": "stages",
    "stages": "stages", "ratio": "stages.0.0.blocks.0.feedforward.ratio",
}  # fmt: skip
"""Where each option of the system stands in its design."""


def facts(model: Any) -> dict[str, Any]:
    """What a timm `CrossVit` with linear patches is."""
    narrow, wide = model.blocks[0].blocks
    return {
        "classes": model.num_classes,
        "image": model.img_size_scaled[0][0],
        "small_image": model.img_size_scaled[1][0],
        "patches": tuple(each.patch_size[0] for each in model.patch_embed),
        "channels": model.patch_embed[0].proj.in_channels,
        "width": model.embed_dim[1],
        "narrow": model.embed_dim[0],
        "depth": len(wide),
        "narrow_depth": len(narrow),
        "stages": len(model.blocks),
        "heads": narrow[0].attn.num_heads,
        "ratio": narrow[0].mlp.fc1.out_features / model.embed_dim[0],
        "eps": model.norm[0].eps,
    }


def table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    found: list[Pair] = []
    for b in (0, 1):
        found += [
            Pair(f"embeddings.{b}.first", (f"cls_token_{b}", f"pos_embed_{b}"), Leading()),
            Pair(f"embeddings.{b}.positions.table", (f"pos_embed_{b}",), Following(1, wrapped=True)),
            *layer(f"embeddings.{b}.project", f"patch_embed.{b}.proj"),
            *layer(f"heads.{b}.norm", f"norm.{b}"),
            *layer(f"heads.{b}.classify", f"head.{b}"),
        ]
        for each in TIMM_BLOCKS:
            ours = each.ours.replace("backbone.", f"stages.*.{b}.")
            found.append(Pair(ours, tuple(name.replace("blocks", f"blocks.*.blocks.{b}", 1) for name in each.theirs)))
        asks = f"blocks.*.fusion.{b}"
        found += layer(f"mixers.*.{b}.query", f"{asks}.attn.wq")
        found += layer(f"mixers.*.{b}.key_value", f"{asks}.attn.wk", f"{asks}.attn.wv")
        found += layer(f"mixers.*.{b}.output", f"{asks}.attn.proj")
        for s in range(len(design.get("stages"))):
            for k, norm in enumerate((f"fusion.{b}.norm1", f"projs.{b}.0", f"revert_projs.{b}.0")):
                found += layer(f"norm.{6 * s + 2 * k + b}", f"blocks.{s}.{norm}")
        found += layer(f"goes.*.{b}", f"blocks.*.projs.{b}.2") + layer(f"returns.*.{b}", f"blocks.*.revert_projs.{b}.2")
    return found


SETTINGS: tuple[Setting, ...] = tuple(Key(option, place, option) for option, place in PLACES.items())
register_timm(TimmFamily(name="CrossVit", system="crossvit", facts=facts, settings=SETTINGS, table=table))
