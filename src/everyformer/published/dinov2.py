"""DINOv2 (Oquab et al., 2024) and registers (Darcet et al., 2024)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP, Gated
from everyformer.heads import ClassHead, FirstAndMean, PoolHead
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import attention, plain
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "dinov2",
    title="DINOv2: Learning Robust Visual Features without Supervision",
    authors="Oquab et al.",
    year=2024,
    arxiv="2304.07193",
    idea="A ViT with LayerScale, trained without labels, whose frozen features serve many tasks as they are.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
        "giant": {"width": 1536, "depth": 40, "heads": 24, "gated": True},
    },
)
def dinov2(
    *,
    classes: int | None = None,
    image: int = 518,
    patch: int = 14,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    ratio: float = 4.0,
    registers: int = 0,
    gated: bool = False,
    qkv_bias: bool = True,
    scale: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Sections 4 and 5: the student's encoder; `gated` has SwiGLU for the MLP (table 1), `registers` more leading tokens.

    Without `classes` it answers with the class token; with them, with a linear map of the class token and the mean of
    the patches beside it (appendix B.3).
    """
    norm = spec(LayerNorm, eps=eps)
    side = image // patch
    hidden = int(width * ratio)
    swiglu = spec(Gated, hidden=-(-(hidden * 2 // 3) // 8) * 8, bias=True)
    head = spec(PoolHead) if classes is None else spec(ClassHead, classes=classes, pool=spec(FirstAndMean))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, first=1 + registers,
                positions=spec(LearnedGrid, grid=(side, side)), dropout=dropout,
            ),
            backbone=plain(
                depth, mixer=attention(heads, qkv_bias),
                feedforward=swiglu if gated else spec(MLP, hidden=hidden), norm=norm, last=norm, scale=scale, drop_path=drop_path, dropout=dropout,
            ),
            head=head,
            start=spec(Xavier),
        )
    )  # fmt: skip


@system(
    "vit-registers",
    title="Vision Transformers Need Registers",
    authors="Darcet et al.",
    year=2024,
    arxiv="2309.16588",
    idea="Extra learned tokens take up what the model else writes into patches of plain background.",
    tasks=("image-classification",),
    default="base",
    sizes={
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
@upon(vit)
def vit_registers(design: Design, *, registers: int = 4) -> Design:
    """Section 2.2: a ViT with `registers` tokens after the class token, without positions, that no head reads."""
    return design.set("embedding.first", 1 + registers)
