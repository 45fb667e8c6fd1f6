"""Designs that say what each pixel is by a set of masks: MaskFormer (Cheng et al., 2021), Mask2Former (Cheng et al., 2022)
and kMaX-DeepLab (Yu et al., 2022).
"""

from __future__ import annotations

from everyformer.backbones import Block, Encoder, Pyramid
from everyformer.contracts import Residual
from everyformer.designs import Design
from everyformer.embeddings import ResidualStem
from everyformer.feedforward import MLP
from everyformer.heads import ClusterQueries, LevelsTogether, MaskedQueries, MaskQueries
from everyformer.mixers import DeformableAttention, FilledWindows
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm
from everyformer.positions import Carried, ScaledSinusoidal
from everyformer.published.detection import query_attention, query_decoder
from everyformer.published.pyramids import residual_stages
from everyformer.published.swin import swin
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import Spec, spec


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


def masked_block(heads: int, mlp: int, residual: Spec[Residual]) -> Spec[Block]:
    """Queries look at the cells, then meet each other (Cheng et al., Mask2Former, 2022, figure 2)."""
    cells, own = query_attention(heads)
    feedforward = spec(MLP, hidden=mlp, activation="relu")
    return spec(Block, mixer=None, cross=(cells, own), feedforward=feedforward, residual=residual)


def deformable_pixels(depth: int, heads: int, mlp: int, levels: int, groups: int) -> Spec[LevelsTogether]:
    """The pixel decoder of Mask2Former (section 3.2.1): blocks of deformable attention over the coarsest levels."""
    mixer = spec(DeformableAttention, heads=heads, levels=levels, places=spec(Carried))
    feedforward = spec(MLP, hidden=mlp, activation="relu")
    block = spec(Block, mixer=mixer, feedforward=feedforward, residual=spec(PostNorm))
    body = spec(Encoder, blocks=(block,) * depth)
    return spec(LevelsTogether, body=body, places=spec(ScaledSinusoidal), levels=levels, groups=groups)


@system(
    "mask2former",
    title="Masked-attention Mask Transformer for Universal Image Segmentation",
    authors="Cheng et al.",
    year=2022,
    arxiv="2112.01527",
    idea="Each query looks only inside the mask that it said last, at one level after another, from coarse to fine.",
    tasks=("segmentation",),
    default="swin-tiny",
    sizes={
        "swin-tiny": {"depths": (2, 2, 6, 2)},
        "swin-small": {"depths": (2, 2, 18, 2)},
        "swin-base": {"depths": (2, 2, 18, 2), "width": 128, "heads": (4, 8, 16, 32), "window": 12},
        "swin-large": {
            "depths": (2, 2, 18, 2),
            "width": 192,
            "heads": (6, 12, 24, 48),
            "window": 12,
            "queries": 200,
        },
    },
)
@upon(swin, image=512, drop_path=0.3)
def mask2former(
    design: Design,
    *,
    classes: int = 150,
    hidden: int = 256,
    levels: int = 3,
    pixel_depth: int = 6,
    pixel_mlp: int = 1024,
    decoder_depth: int = 9,
    decoder_heads: int = 8,
    mlp: int = 2048,
    queries: int = 100,
    groups: int = 32,
) -> Design:
    """Section 3.2 on Swin; the answer is as fine as the first level. The `levels` coarsest ones are looked at, and the
    pixel decoder has `pixel_depth` blocks.
    """
    block = masked_block(decoder_heads, mlp, spec(PostNorm))
    head = spec(
        MaskedQueries, classes=classes, pixels=deformable_pixels(pixel_depth, decoder_heads, pixel_mlp, levels, groups),
        blocks=(block,) * decoder_depth, norm=spec(LayerNorm), queries=queries, hidden=hidden,
        level_norm=spec(LayerNorm),
    )  # fmt: skip
    design = design.swap("backbone.stages.*.blocks.*.mixer", lambda old: spec(FilledWindows, **old.options))
    return design.remove("backbone.norm").set("head", head).set("start", spec(Xavier))


@system(
    "kmax-deeplab",
    title="k-means Mask Transformer",
    authors="Yu et al.",
    year=2022,
    arxiv="2207.04044",
    idea="Queries are the centres of clusters: every cell goes wholly to one of them, which takes up the sum of its cells.",
    tasks=("segmentation",),
    default="r50",
    sizes={"r50": {}},
)
@upon(maskformer, classes=133, fixed={"decoder_depth": 1, "dropout": 0.0})
def kmax_deeplab(
    design: Design,
    *,
    classes: int = 133,
    hidden: int = 256,
    pixel_depth: int = 6,
    pixel_mlp: int = 1024,
    heads: int = 8,
    mlp: int = 2048,
    queries: int = 128,
    depths: tuple[int, ...] = (2, 2, 2),
    sharpness: float = 0.1,
    momentum: float = 0.01,
    groups: int = 32,
) -> Design:
    """Section 3: `depths` are the steps of k-means at each level that is looked at. The pixel decoder is that of
    Mask2Former, in the place of one of the authors' with axial attention, which takes pictures of one size alone.
    """
    pixels = deformable_pixels(pixel_depth, heads, pixel_mlp, len(depths), groups)
    head = spec(
        ClusterQueries, classes=classes, pixels=pixels, queries=queries, hidden=hidden, heads=heads, mlp=mlp, depths=depths,
        sharpness=sharpness, momentum=momentum,
    )  # fmt: skip
    return design.set("head", head)
