"""Designs that say what each pixel is by a set of masks: MaskFormer (Cheng et al., 2021)."""

from __future__ import annotations

from everyformer.backbones import Pyramid
from everyformer.designs import Design
from everyformer.embeddings import ResidualStem
from everyformer.heads import MaskQueries
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm
from everyformer.published.detection import query_decoder
from everyformer.published.pyramids import residual_stages
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "maskformer",
    title="Per-Pixel Classification is Not All You Need for Semantic Segmentation",
    authors="Cheng et al.",
    year=2021,
    arxiv="2107.06278",
    idea="DETR's queries each say one class and one mask; a pixel is what most of the masks over it say.",
    tasks=("segmentation",),
    default="r50",
    sizes={"r50": {}, "r101": {"convs": (3, 4, 23, 3)}},
)
def maskformer(
    *,
    classes: int = 150,
    image: int = 512,
    channels: int = 3,
    stem: int = 64,
    convs: tuple[int, ...] = (3, 4, 6, 3),
    hidden: int = 256,
    decoder_depth: int = 6,
    heads: int = 8,
    mlp: int = 2048,
    queries: int = 100,
    groups: int = 32,
    dropout: float = 0.1,
) -> Design:
    """Section 3.3; the answer has a quarter of the picture's resolution. `mlp` is the width inside the decoder's MLPs."""
    body = query_decoder(decoder_depth, heads, mlp, spec(PostNorm, dropout=dropout), dropout)
    head = spec(
        MaskQueries, classes=classes, body=body, norm=spec(LayerNorm), queries=queries, hidden=hidden, groups=groups
    )  # fmt: skip
    return Design(
        spec(
            Model,
            width=stem,
            embedding=spec(ResidualStem, channels=channels, image=image),
            backbone=spec(Pyramid, stages=tuple(residual_stages(stem, convs))),
            head=head,
            start=spec(Xavier),
        )
    )
