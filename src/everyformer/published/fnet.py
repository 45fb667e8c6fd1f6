"""FNet (Lee-Thorp et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Project
from everyformer.designs import Design
from everyformer.mixers import FourierMixer
from everyformer.published.bert import bert
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "fnet",
    title="FNet: Mixing Tokens with Fourier Transforms",
    authors="Lee-Thorp et al.",
    year=2022,
    arxiv="2105.03824",
    idea="Put an unparametrised Fourier transform where BERT has attention: nearly as accurate, much faster.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={
        "nano": {"width": 128, "depth": 4},
        "base": {"width": 768, "depth": 12},
        "large": {"width": 1024, "depth": 24},
    },
)
def fnet(
    *,
    vocabulary: int = 32000,
    classes: int | None = None,
    length: int = 512,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    segments: int = 4,
    activation: str = "gelu_tanh",
    dropout: float = 0.1,
    eps: float = 1e-12,
) -> Design:
    """Section 3.2: BERT with another mixer, and a linear map after the embedding."""
    made = bert(
        vocabulary=vocabulary, classes=classes, length=length, width=width, hidden=hidden, depth=depth, heads=1,
        segments=segments, activation=activation, dropout=dropout, eps=eps,
    )  # fmt: skip
    made = made.swap("backbone.blocks.*.mixer", spec(FourierMixer))
    return made.insert("backbone.blocks.0", spec(Project))
