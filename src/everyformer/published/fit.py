"""FIT (Chen and Li, 2023)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder, Interleaved, Round
from everyformer.designs import Design
from everyformer.embeddings import Patches, Text
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Mean, TokenHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import Learned, LearnedGrid
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "fit",
    title="FIT: Far-reaching Interleaved Transformers",
    authors="Chen and Li",
    year=2023,
    arxiv="2305.12689",
    idea="Tokens talk within their group, groups talk through a few latents each, layer about: near-linear work, far reach.",
    tasks=("image-classification", "language-modelling"),
    default="base",
    sizes={
        "digits": {"width": 64, "heads": 4, "rounds": 1, "local": 1, "outer": 1, "image": 8, "patch": 1, "channels": 1},
        "base": {"width": 512, "heads": 8},
    },
)
def fit(
    *,
    classes: int = 1000,
    image: int = 256,
    patch: int = 16,
    channels: int = 3,
    window: int = 4,
    vocabulary: int | None = None,
    length: int = 1024,
    group: int = 16,
    width: int = 512,
    heads: int = 8,
    latents: int = 4,
    rounds: int = 3,
    local: int = 2,
    outer: int = 2,
    ratio: float = 4.0,
) -> Design:
    """Section 2: an encoder of pictures in windows of `window`^2 patches; where a `vocabulary` is given, a decoder of tokens
    in groups of `group`.
    """
    mlp = spec(MLP, ratio=ratio)
    block = spec(Block, mixer=spec(Attention, heads=heads), feedforward=mlp)
    across = spec(Block, mixer=None, cross=(spec(CrossAttention, heads=heads, memory="across"),), feedforward=mlp)
    each = spec(Round, local=(block,) * local, read=across, outer=(block,) * outer, write=across)

    def body(size: int | tuple[int, int]) -> Spec[Interleaved]:
        return spec(Interleaved, group=size, latents=latents, rounds=(each,) * rounds)

    if vocabulary is not None:
        root = spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length)),
            backbone=spec(Decoder, blocks=(body(group),), norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    else:
        side = image // patch
        root = spec(
            Model,
            width=width,
            embedding=spec(
                Patches, patch=patch, channels=channels, image=image, positions=spec(LearnedGrid, grid=(side, side))
            ),
            backbone=spec(Encoder, blocks=(body((window, window)),), norm=spec(LayerNorm)),
            head=spec(ClassHead, classes=classes, pool=spec(Mean)),
            start=spec(Xavier),
        )
    return Design(root)
