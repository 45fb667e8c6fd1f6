"""PoolFormer, of Hugging Face transformers and of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Always, Key, Labels, Square
from everyformer.interop.family import Family, Top, register
from everyformer.interop.pyramids import (
    ACTIVATION,
    BLOCK,
    CHANNELS,
    STAGE,
    Depths,
    DropPath,
    Fixed,
    Widths,
    norms,
    pointwise,
)  # fmt: skip
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer
from everyformer.norms import SampleNorm
from everyformer.specs import spec

LABELS = Labels("head.classes")
SETTINGS = (
    Square("image_size", "embedding.image", "image", default=224),
    CHANNELS,
    Widths(),
    Key("pool_size", f"{BLOCK}.mixer.size", "size"),
    Key("mlp_ratio", f"{BLOCK}.feedforward.ratio", "ratio", default=4.0),
    Key("layer_scale_init_value", f"{BLOCK}.residual.branches.0.start", "scale", default=1e-5),
    DropPath(),
)
"""What both say."""


def blocks(theirs: str, norm: tuple[str, str], scale: str, maps: tuple[str, str]) -> list[Pair]:
    """The tensors of blocks; `scale` ends in the number of the layer, where a brace stands."""
    return [
        *norms(*(f"{theirs}.{each}" for each in norm)),
        *(Pair(f"{BLOCK}.residual.{k}.branches.0.factor", (f"{theirs}.{scale.format(k + 1)}",)) for k in (0, 1)),
        *pointwise(f"{BLOCK}.feedforward.up", f"{theirs}.{maps[0]}"),
        *pointwise(f"{BLOCK}.feedforward.down", f"{theirs}.{maps[1]}"),
    ]


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *layer("embedding.project", "encoder.patch_embeddings.0.projection"),
        *layer(f"{STAGE}.enter.project", "encoder.patch_embeddings.*.projection"),
        *blocks("encoder.block.*.*", ("before_norm", "after_norm"), "layer_scale_{}", ("output.conv1", "output.conv2")),
    ]


BARE = Top(head=lambda config: None, settings=(Always("backbone.norm", None),), prefix="")
"""The last map, without the norm that a classifier has behind it."""

register(
    Family(
        name="poolformer",
        system="poolformer",
        settings=(
            *SETTINGS,
            Depths(count="num_encoder_blocks"),
            ACTIVATION,
            Fixed("patch_sizes", 7, 3),
            Fixed("strides", 4, 2),
            Fixed("padding", 2, 1),
        ),
        table=table,
        prefix="poolformer",
        only={"use_layer_scale": True},
        tops={
            "PoolFormerForImageClassification": Top(
                settings=(LABELS,),
                table=(*layer("backbone.norm", "norm"), *layer("head.classify", "classifier")),
            ),
            "PoolFormerModel": BARE,
        },
    )
)


def mixers(model: Any) -> set[str]:
    """The classes of the mixers of a timm `MetaFormer`."""
    return {type(each.blocks[0].token_mixer).__name__ for each in model.stages}


def facts(model: Any) -> dict[str, Any]:
    """What a timm `MetaFormer` with pooling is."""
    return {
        "num_labels": model.num_classes,
        "num_channels": model.stem.conv.in_channels,
        "hidden_sizes": [each.blocks[0].norm1.num_channels for each in model.stages],
        "depths": [len(each.blocks) for each in model.stages],
        "pool_size": model.stages[0].blocks[0].token_mixer.pool.kernel_size,
        "eps": model.head.norm.eps,
    }


def timm_table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    return [
        *layer("embedding.project", "stem.conv"),
        *layer(f"{STAGE}.enter.project", "stages.*.downsample.conv"),
        *blocks("stages.*.blocks.*", ("norm1", "norm2"), "layer_scale{}.scale", ("mlp.fc1", "mlp.fc2")),
        *layer("head.norm", "head.norm"),
        *layer("head.classify", "head.fc"),
    ]


register_timm(
    TimmFamily(
        name="MetaFormer",
        system="poolformer",
        fits=lambda model: mixers(model) == {"Pooling"} and not hasattr(model.stages[0].blocks[0].mlp.act, "scale"),
        facts=facts,
        # The last norm stands behind the mean.
        settings=(
            LABELS,
            *SETTINGS,
            Depths(),
            Always("backbone.norm", None),
            Always("head.norm", spec(SampleNorm)),
            Key("eps", "head.norm.eps"),
        ),
        table=timm_table,
    )
)
