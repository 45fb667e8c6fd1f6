"""DeiT, of Hugging Face transformers and of timm."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.heads import ClassHead
from everyformer.interop.bert import pooled, pooler
from everyformer.interop.config import Config, Labels, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.vit import BLOCKS, ENCODER, PICTURE, TIMM_BLOCKS, TIMM_SETTINGS, facts, fills_in, leading
from everyformer.interop.weights import Pair, layer
from everyformer.specs import Spec, spec


def table(design: Design) -> list[Pair]:
    """The body."""
    tokens = [f"embeddings.{name}_token" for name in ("cls", "distillation")]
    return [
        *leading(*tokens, positions="embeddings.position_embeddings"),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *BLOCKS,
        *layer("backbone.norm", "layernorm"),
    ]


def of_class_token(config: Config) -> Spec[Any]:
    """The head of the class without a classifier for the distillation token, which it has all the same."""
    return spec(ClassHead, classes=len(labels(config)))


FAMILY = register(
    Family(
        name="deit",
        system="deit",
        settings=(*ENCODER, *PICTURE),
        table=table,
        prefix="deit",
        tops={
            "DeiTForImageClassificationWithTeacher": Top(
                settings=(Labels("head.classes"),),
                table=(*layer("head.classify", "cls_classifier"), *layer("head.distil", "distillation_classifier")),
            ),
            "DeiTForImageClassification": Top(
                settings=(Labels("head.classes"),), table=(*layer("head.classify", "classifier"),), head=of_class_token
            ),
            "DeiTModel": Top(head=pooled, prefix="", table=pooler("deit")),
        },
    )
)


register(fills_in(FAMILY, "DeiTForMaskedImageModeling", "deit.embeddings.mask_token"))


def timm_table(design: Design) -> list[Pair]:
    """All tensors of timm's."""
    return [
        *leading("cls_token", "dist_token", positions="pos_embed"),
        *layer("embedding.project", "patch_embed.proj"),
        *TIMM_BLOCKS,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
        *layer("head.distil", "head_dist"),
    ]


register_timm(
    TimmFamily(
        name="VisionTransformerDistilled",
        system="deit",
        facts=facts,
        settings=TIMM_SETTINGS,
        only={"global_pool": "token", "no_embed_class": False},
        table=timm_table,
    )
)
