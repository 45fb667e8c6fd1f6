"""Designs that find what is not normal, having seen only what is: FOD (Yao et al., 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Bottlenecks, Encoder, Pyramid
from everyformer.designs import Design
from everyformer.embeddings import ResidualStem
from everyformer.feedforward import MLP
from everyformer.heads import MeanOfLevels, Rebuilt
from everyformer.mixers import Correlation, CrossCorrelation, Difference
from everyformer.models import FixedBody
from everyformer.norms import LayerNorm, NormedReplacement, PostNorm
from everyformer.positions import Sinusoidal
from everyformer.published.pyramids import residual_stages
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "fod-anomaly",
    title="Focus the Discrepancy: Intra- and Inter-Correlation Learning for Image Anomaly Detection",
    authors="Yao et al.",
    year=2023,
    arxiv="2308.02983",
    idea="What is rebuilt badly, and whose attention to what is normal in its place is not near by, is an anomaly.",
    tasks=("anomaly-detection",),
    default="base",
    sizes={"base": {}},
)
def fod_anomaly(
    *,
    image: int = 256,
    channels: int = 3,
    stem: int = 64,
    convs: tuple[int, ...] = (3, 4, 6),
    wide: int = 2,
    levels: tuple[int, ...] = (1, 2),
    inner: tuple[int, ...] = (256, 512),
    depth: int = 3,
    heads: int = 8,
    share: float = 0.5,
) -> Design:
    """Section 3 and the official code: the `levels` of a residual network that learns nothing are rebuilt, each at a width of
    its own; the answer is as fine as the picture. Train it on normal pictures, by `objectives.Rebuilding`.

    Positions have rows before columns, theirs columns before rows. `share` is lambda_1 = lambda_2; half of it here, as
    their two backward passes together take every error twice.
    """
    each = share / 2 / depth
    within = spec(Correlation, heads=heads, share=each)
    across = spec(CrossCorrelation, heads=heads, share=-each, memory="normal")
    norm = spec(LayerNorm)
    block = spec(
        Block, mixer=spec(Difference, first=within, second=across), feedforward=spec(MLP),
        residual=(spec(NormedReplacement, norm=norm), spec(PostNorm, norm=norm)),
    )  # fmt: skip
    body = spec(Encoder, blocks=(block,) * depth, norm=norm)
    rebuilt = tuple(
        spec(Rebuilt, grid=(side, side), inner=width, body=body, positions=spec(Sinusoidal))
        for side, width in zip((image // 4 // 2**level for level in levels), inner, strict=True)
    )
    return Design(
        spec(
            FixedBody,
            width=stem,
            embedding=spec(ResidualStem, channels=channels, image=image),
            backbone=spec(Pyramid, stages=(*residual_stages(stem, convs, Bottlenecks, wide=wide),)),
            head=spec(MeanOfLevels, heads=rebuilt, levels=levels, finer=4 * 2 ** levels[0]),
        )
    )
