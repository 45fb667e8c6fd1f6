"""BEiT (Bao et al., 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import MaskedPatches, Patches
from everyformer.feedforward import MLP
from everyformer.heads import CellHead, ClassHead, Mean
from everyformer.mixers import Attention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LeadingGrid
from everyformer.published.bodies import plain
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "beit",
    title="BEiT: BERT Pre-Training of Image Transformers",
    authors="Bao et al.",
    year=2022,
    arxiv="2106.08254",
    idea="Hide patches of a picture and have the transformer name the visual words that stood there.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "base": {"width": 768, "depth": 12, "heads": 12, "scale": 0.1},
        "large": {"width": 1024, "depth": 24, "heads": 16, "scale": 1e-5},
    },
)
def beit(
    *,
    classes: int = 1000,
    visual_words: int | None = None,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    scale: float = 0.1,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-12,
) -> Design:
    """Section 2: a ViT with biases by offset in the place of positions, LayerScale, and the mean of the patches classified.

    With `visual_words` it is the model that is pretrained (section 2.4): patches given as `hidden` are replaced, each
    patch is answered with logits of its visual word, and all layers share their biases, as in the official code.
    Keys have a bias here, which theirs lack; softmax does not see it.
    """
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    offsets = spec(LeadingGrid, window=side)
    pretrained = visual_words is not None
    backbone = plain(
        depth, mixer=spec(Attention, heads=heads, positions=None if pretrained else offsets),
        feedforward=spec(MLP, hidden=int(width * ratio)), norm=norm, last=norm if pretrained else None, scale=scale,
        drop_path=drop_path, dropout=dropout,
    )  # fmt: skip
    head = spec(ClassHead, classes=classes, pool=spec(Mean), norm=norm)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                MaskedPatches if pretrained else Patches, patch=patch, channels=channels, image=image, first=1,
                dropout=dropout,
            ),
            backbone=backbone.but(positions=offsets) if pretrained else backbone,
            head=head if visual_words is None else spec(CellHead, outputs=visual_words),
            start=spec(Xavier),
        )
    )  # fmt: skip
