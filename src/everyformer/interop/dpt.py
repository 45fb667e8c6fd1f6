"""DPT on a plain ViT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.heads import ReassembledClasses
from everyformer.interop.bert import pooled
from everyformer.interop.config import Config, Custom, Key, Labels, Only, Written, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import BLOCK, BLOCKS, PICTURE, SIZES, leading
from everyformer.interop.weights import Pair, batch_norm, layer
from everyformer.published.depth import dpt
from everyformer.published.upon import upon
from everyformer.specs import Spec, spec

STAGE, FUSION = "neck.reassemble_stage", "neck.fusion_stage.layers"


def normed(config: Config) -> dict[str, Any]:
    """Batch norms in place of biases, or biases."""
    norms = bool(config.get("use_batch_norm_in_fusion_residual"))
    if config.get("use_bias_in_fusion_residual") is not None:
        config.only({"use_bias_in_fusion_residual": not norms})
    return {"head.normed": norms}


def write_normed(design: Design) -> dict[str, Any]:
    """The same."""
    norms = design.get("head.normed")
    return {"use_batch_norm_in_fusion_residual": norms, "use_bias_in_fusion_residual": not norms}


def unit(ours: str, theirs: str) -> list[Pair]:
    """Two convolutions around which a map is added."""
    return [
        pair
        for k in (0, 1)
        for pair in (
            *layer(f"{ours}.convs.{k}", f"{theirs}.convolution{k + 1}"),
            *batch_norm(f"{ours}.norms.{k}", f"{theirs}.batch_norm{k + 1}"),
        )
    ]


def table(design: Design) -> list[Pair]:
    """The ViT."""
    return [
        *leading("embeddings.cls_token", positions="embeddings.position_embeddings"),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *BLOCKS,
    ]


NECK = (
    *layer("head.readout.*", f"{STAGE}.readout_projects.*.0"),
    *layer("head.project.*", f"{STAGE}.layers.*.projection"),
    *layer("head.resize.*", f"{STAGE}.layers.*.resize"),
    *layer("head.narrow.*", "neck.convs.*", bias=False),
    *unit("head.beside.*", f"{FUSION}.*.residual_layer1"),
    *unit("head.after.*", f"{FUSION}.*.residual_layer2"),
    *layer("head.mix.*", f"{FUSION}.*.projection"),
)
"""What fuses the levels."""
DEPTH = (
    *NECK,
    *layer("head.first", "head.head.0"),
    *layer("head.middle", "head.head.2"),
    *layer("head.last", "head.head.4"),
)


def segments(config: Config) -> Spec[ReassembledClasses]:
    """A class for every pixel."""
    return spec(ReassembledClasses, classes=len(labels(config)))


IDLE = (f"{FUSION}.0.residual_layer1.*", "dpt.layernorm.*", "dpt.pooler.*")
"""What theirs has and does not use: a unit beside the coarsest level, the last norm of the ViT."""
BODY = (
    *SIZES,
    *PICTURE,
    Key("layer_norm_eps", f"{BLOCK}.residual.norm.eps", "eps", default=1e-12),
    Key("qkv_bias", f"{BLOCK}.mixer.bias", "qkv_bias", default=True),
)
"""What a config says of the ViT."""
FAMILY = register(
    Family(
        name="dpt",
        system="dpt",
        settings=(
            *BODY,
            Key("backbone_out_indices", "head.levels", default=(2, 5, 8, 11)),
            Key("neck_hidden_sizes", "head.hidden", default=(96, 192, 384, 768)),
            Key("reassemble_factors", "head.factors", default=(4, 2, 1, 0.5)),
            Key("fusion_hidden_size", "head.fused", default=256),
            Key("hidden_act", "head.activation", None, ACTIVATIONS, "gelu"),
            Custom(normed, write_normed),
            Written(neck_ignore_stages=[]),
        ),
        table=table,
        prefix="dpt",
        only={
            "is_hybrid": False,
            "readout_type": "project",
            "add_projection": False,
            "backbone_config": None,
            "head_in_index": -1,
        },
        tops={
            "DPTForDepthEstimation": Top(
                table=DEPTH,
                unused=IDLE,
            ),
            "DPTForSemanticSegmentation": Top(
                head=segments,
                settings=(
                    Labels("head.classes", "head.classes"),
                    Key("semantic_classifier_dropout", "head.dropout", default=0.1),
                    Written(use_auxiliary_head=False),
                ),
                table=(
                    *NECK,
                    *layer("head.before.conv", "head.head.0", bias=False),
                    *batch_norm("head.before.norm", "head.head.1"),
                    *layer("head.classify", "head.head.4"),
                ),
                unused=(*IDLE, "auxiliary_head.*"),
            ),
        },
    )
)


@upon(dpt)
def normed_body(design: Design) -> Design:
    """The ViT with its last norm."""
    return design.set("backbone.norm", design.get("backbone.blocks.0.residual.norm"))


register(
    replace(
        FAMILY,
        make=normed_body,
        settings=(*BODY, Only(pooler_act="tanh")),
        table=lambda design: [
            *table(design),
            *layer("backbone.norm", "layernorm"),
            *layer("head.hidden", "pooler.dense"),
        ],
        tops={"DPTModel": Top(head=pooled, prefix="")},
    )
)
