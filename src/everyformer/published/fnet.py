"""FNet (Lee-Thorp et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Project
from everyformer.designs import Design
from everyformer.mixers import FourierMixer
from everyformer.published.bert import bert
from everyformer.published.upon import upon
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
@upon(
    bert,
    fixed={"heads": 1, "attention_dropout": 0.0},
    vocabulary=32000,
    segments=4,
    activation="gelu_tanh",
)
def fnet(design: Design) -> Design:
    """Section 3.2: BERT with another mixer, and a linear map after the embedding."""
    made = design.swap("backbone.blocks.*.mixer", spec(FourierMixer))
    return made.insert("backbone.blocks.0", spec(Project))
