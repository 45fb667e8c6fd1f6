"""Masked autoencoders (He et al., MAE, 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import CellHead, ClassHead, Mean
from everyformer.mixers import Attention
from everyformer.models import MaskedAutoencoder, Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import SinusoidalGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "vit-mae",
    title="Masked Autoencoders Are Scalable Vision Learners",
    authors="He et al.",
    year=2022,
    arxiv="2111.06377",
    idea="Hide three quarters of a picture, encode only what is left, and have a small decoder paint the rest.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
        "huge": {"width": 1280, "depth": 32, "heads": 16, "patch": 14},
    },
)
def vit_mae(
    *,
    classes: int | None = None,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    narrow: int = 512,
    narrow_depth: int = 8,
    narrow_heads: int = 16,
    share: float = 0.75,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: the model that is pretrained, with `objectives.HiddenPixels`; with `classes`, the one that is fine-tuned.

    Both have the same embedding, and the same backbone but for its last norm, which stands after the mean of the
    patches once there are classes (appendix A.1).
    """
    norm = spec(LayerNorm, eps=eps)
    embedding = spec(
        Patches, patch=patch, channels=channels, image=image, first=1, positions=spec(SinusoidalGrid), dropout=dropout
    )
    backbone = plain(
        depth, mixer=spec(Attention, heads=heads), feedforward=spec(MLP, hidden=int(width * ratio)), norm=norm,
        last=norm if classes is None else None, dropout=dropout, drop_path=drop_path,
    )  # fmt: skip
    if classes is not None:
        head = spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm)
        return Design(spec(Model, width=width, embedding=embedding, backbone=backbone, head=head, start=spec(Xavier)))
    decoder = plain(
        narrow_depth, mixer=spec(Attention, heads=narrow_heads), feedforward=spec(MLP), norm=norm, last=norm
    )  # fmt: skip
    return Design(
        spec(
            MaskedAutoencoder,
            width=width,
            narrow=narrow,
            embedding=embedding,
            backbone=backbone,
            decoder=decoder,
            positions=spec(SinusoidalGrid),
            head=spec(CellHead, outputs=patch * patch * channels),
            share=share,
            start=spec(Xavier),
        )
    )
