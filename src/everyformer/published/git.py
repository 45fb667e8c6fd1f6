"""GIT (Wang et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder, Project
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead, TokenHead
from everyformer.mixers import Attention
from everyformer.models import Normal, Prefixed
from everyformer.norms import LayerNorm, PostNorm
from everyformer.positions import Learned
from everyformer.published.clip import picture_tower
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "git",
    title="GIT: A Generative Image-to-text Transformer for Vision and Language",
    authors="Wang et al.",
    year=2022,
    arxiv="2205.14100",
    idea="The tokens of a picture stand in front of a text that is written word by word; a class is a text too.",
    tasks=("captioning",),
    default="base",
    sizes={
        "base": {},
        "large": {"patch": 14, "picture_width": 1024, "picture_depth": 24, "picture_heads": 16},
    },
)
def git(
    *,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    picture_width: int = 768,
    picture_hidden: int | None = None,
    picture_depth: int = 12,
    picture_heads: int = 12,
    picture_activation: str = "quick_gelu",
    picture_eps: float = 1e-5,
    vocabulary: int = 30522,
    length: int = 1024,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 6,
    heads: int = 12,
    activation: str = "gelu",
    tied: bool = False,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    eps: float = 1e-12,
) -> Design:
    """Section 3.1: CLIP's picture encoder, a map with a norm behind it, and a text decoder of post-norm blocks.

    `hidden` and `picture_hidden` are the widths of the MLPs, four times the width unless said.
    """
    picture = picture_tower(
        image=image, patch=patch, channels=channels, width=picture_width, hidden=picture_hidden, depth=picture_depth,
        heads=picture_heads, activation=picture_activation, eps=picture_eps,
    )  # fmt: skip
    norm, last = spec(LayerNorm, eps=eps), spec(LayerNorm, eps=picture_eps)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=attention_dropout),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        residual=spec(PostNorm, norm=norm, dropout=dropout),
    )
    tower = picture.get("backbone").but(norm=last)
    return Design(
        spec(
            Prefixed,
            width=width,
            source_width=picture_width,
            source=picture.get("embedding"),
            encoder=spec(Encoder, blocks=(tower, spec(Project, to=width)), norm=last),
            target=spec(
                Text, vocabulary=vocabulary, positions=spec(Learned, length=length), norm=norm, dropout=dropout
            ),
            decoder=spec(Encoder, blocks=(block,) * depth),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary, bias=True),
            start=spec(Normal, std=0.02),
        )
    )
