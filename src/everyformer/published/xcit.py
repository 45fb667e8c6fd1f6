"""XCiT (El-Nouby et al., Cross-Covariance Image Transformers, 2021)."""

from __future__ import annotations

from everyformer.backbones import Apart, Block, Encoder, PassingClassBlock
from everyformer.designs import Design
from everyformer.embeddings import HalvingStem
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import CrossAttention, CrossCovariance, LocalInteraction
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm, TrunkNorm
from everyformer.positions import FourierGrid
from everyformer.published.bodies import branches
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "xcit",
    title="XCiT: Cross-Covariance Image Transformers",
    authors="El-Nouby et al.",
    year=2021,
    arxiv="2106.09681",
    idea="Channels attend to each other instead of tokens, so that the cost is linear in the area of the picture.",
    tasks=("image-classification",),
    default="small-12",
    sizes={
        "nano-12": {"width": 128, "heads": 4, "normed": False},
        "tiny-12": {"width": 192, "heads": 4},
        "small-12": {"width": 384, "heads": 8},
        "tiny-24": {"width": 192, "depth": 24, "heads": 4, "scale": 1e-5, "drop_path": 0.05},
        "small-24": {"width": 384, "depth": 24, "heads": 8, "scale": 1e-5, "drop_path": 0.1},
        "medium-24": {"width": 512, "depth": 24, "heads": 8, "scale": 1e-5, "drop_path": 0.15},
        "large-24": {"width": 768, "depth": 24, "heads": 16, "scale": 1e-5, "drop_path": 0.25},
    },
)
def xcit(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 8,
    ratio: float = 4.0,
    class_depth: int = 2,
    scale: float = 1.0,
    normed: bool = True,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: covariance, neighbours, feedforward; then class attention, its last norm that of all tokens if `normed`.

    The official code has the same rate of stochastic depth in all layers.
    """
    norm, mlp, scaled = spec(LayerNorm, eps=eps), spec(MLP, ratio=ratio), branches(scale, 0.0)
    residual = spec(PreNorm, norm=norm, dropout=dropout, branches=branches(scale, drop_path))
    layer = (
        spec(Block, mixer=spec(CrossCovariance, heads=heads), feedforward=None, residual=residual),
        spec(Block, mixer=spec(LocalInteraction), feedforward=mlp, residual=residual),
    )
    asking = spec(
        PassingClassBlock,
        mixer=spec(CrossAttention, heads=heads, memory="tokens"),
        feedforward=mlp,
        residual=(spec(PreNorm, norm=norm, branches=scaled), spec(TrunkNorm, norm=norm, branches=scaled)),
        patches=normed,
    )
    patches = spec(Apart, body=spec(Encoder, blocks=layer * depth))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                HalvingStem, patch=patch, channels=channels, image=image, first=1, positions=spec(FourierGrid),
                dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(patches, *[asking] * class_depth), norm=norm),
            head=spec(ClassHead, classes=classes),
            start=spec(Normal),
        )
    )  # fmt: skip
