"""ConvNeXt, of Hugging Face transformers and of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.heads import Mean, PoolHead
from everyformer.interop.config import Key, Labels, Square
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.pyramids import BLOCK, CHANNELS, STAGE, Depths, DropPath, Widths
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, layer
from everyformer.norms import LayerNorm
from everyformer.specs import spec

LABELS = Labels("head.classes")
SETTINGS = (
    Square("image_size", "embedding.image", "image", default=224),
    Square("patch_size", "embedding.patch", "patch"),
    CHANNELS,
    Widths(),
    Key("layer_scale_init_value", f"{BLOCK}.residual.branches.0.start", "scale", default=1e-6),
    DropPath(),
)
"""What both say."""


def blocks(theirs: str, conv: str, norm: str, up: str, down: str, scale: str) -> list[Pair]:
    """The tensors of blocks."""
    return [
        *layer(f"{BLOCK}.mixer.mixer.conv", f"{theirs}.{conv}"),
        *layer(f"{BLOCK}.mixer.norm", f"{theirs}.{norm}"),
        *layer(f"{BLOCK}.mixer.feedforward.up", f"{theirs}.{up}"),
        *layer(f"{BLOCK}.mixer.feedforward.down", f"{theirs}.{down}"),
        Pair(f"{BLOCK}.residual.0.branches.0.factor", (f"{theirs}.{scale}",)),
    ]


def table(design: Design) -> list[Pair]:
    """The body."""
    stage = "encoder.stages.*"
    return [
        *layer("embedding.project", "embeddings.patch_embeddings"),
        *layer("embedding.norm", "embeddings.layernorm"),
        *blocks(f"{stage}.layers.*", "dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
        *layer(f"{STAGE}.enter.before", f"{stage}.downsampling_layer.0"),
        *layer(f"{STAGE}.enter.project", f"{stage}.downsampling_layer.1"),
        *layer("head.norm", "layernorm"),
    ]


register(
    Family(
        name="convnext",
        system="convnext",
        settings=(
            *SETTINGS,
            Depths(count="num_stages"),
            Key("hidden_act", f"{BLOCK}.mixer.feedforward.activation", None, ACTIVATIONS, "gelu"),
            Key("layer_norm_eps", "head.norm.eps", default=1e-12),  # that of the last norm alone
        ),
        table=table,
        prefix="convnext",
        tops={
            "ConvNextForImageClassification": Top(settings=(LABELS,), table=(*layer("head.classify", "classifier"),)),
            "ConvNextModel": Top(
                head=lambda config: spec(PoolHead, pool=spec(Mean), norm=spec(LayerNorm)),
                prefix="",
            ),
        },
    )
)


def facts(model: Any) -> dict[str, Any]:
    """What a timm `ConvNeXt` is that has no hidden layer in its head."""
    first = model.stages[0].blocks[0]
    return {
        "num_labels": model.num_classes,
        "patch_size": model.stem[0].kernel_size,
        "num_channels": model.stem[0].in_channels,
        "hidden_sizes": [each.blocks[0].conv_dw.out_channels for each in model.stages],
        "depths": [len(each.blocks) for each in model.stages],
        "kernel": first.conv_dw.kernel_size,
        "ratio": first.mlp.fc1.out_features / first.mlp.fc1.in_features,
        "eps": first.norm.eps,
    }


def timm_table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    return [
        *layer("embedding.project", "stem.0"),
        *layer("embedding.norm", "stem.1"),
        *blocks("stages.*.blocks.*", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        *layer(f"{STAGE}.enter.before", "stages.*.downsample.0"),
        *layer(f"{STAGE}.enter.project", "stages.*.downsample.1"),
        *layer("head.norm", "head.norm"),
        *layer("head.classify", "head.fc"),
    ]


register_timm(
    TimmFamily(
        name="ConvNeXt",
        system="convnext",
        facts=facts,
        settings=(
            LABELS,
            *SETTINGS,
            Depths(),
            Square("kernel", f"{BLOCK}.mixer.mixer.kernel", "kernel"),
            Key("ratio", f"{BLOCK}.mixer.feedforward.ratio", "ratio"),
            Key("eps", "embedding.norm.eps", "eps"),
        ),
        table=timm_table,
    )
)
