"""GRiT (Wu et al., 2022)."""

from __future__ import annotations

from everyformer.backbones import Encoder, SimplePyramid
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.heads import CenterProposals, RegionMLP, Regions
from everyformer.mixers import Attention, FilledWindows
from everyformer.models import Described, Xavier
from everyformer.norms import LayerNorm
from everyformer.positions import Combined, LearnedGrid, Relative
from everyformer.published.git import git
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "grit",
    title="GRiT: A Generative Region-to-text Transformer for Object Understanding",
    authors="Wu et al.",
    year=2022,
    arxiv="2212.00280",
    idea="Regions in which there is something, of whatever kind; what it is a text decoder writes, a name or a sentence.",
    tasks=("dense-captioning",),
    default="base",
    sizes={
        "base": {"drop_path": 0.1},
        "large": {"width": 1024, "depth": 24, "heads": 16, "drop_path": 0.4},
        "huge": {"width": 1280, "depth": 32, "heads": 16, "drop_path": 0.5},
    },
)
def grit(
    *,
    image: int = 1024,
    patch: int = 16,
    channels: int = 3,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    window: int = 14,
    whole: int = 4,
    pretrained: int = 14,
    drop_path: float = 0.0,
    hidden: int = 256,
    groups: int = 32,
    coarser: int = 2,
    looks: int = 3,
    look_hidden: int = 1024,
    before: int = 1000,
    count: int = 256,
    side: int = 14,
    vocabulary: int = 30522,
    length: int = 1024,
    text_width: int = 768,
    text_depth: int = 6,
    text_heads: int = 12,
    dropout: float = 0.1,
) -> Design:
    """Section 3 and the official code: a ViT in windows of `window` cells with `whole` blocks that see the whole map, as
    of ViTDet; a pyramid of its last map; things of all kinds found on it, with `looks` looks; and GIT's text decoder, its head
    tied, which is shown the `side` x `side` cells of a region alone.

    `pretrained` is the side of the grid that the ViT's positions were learnt on. Relative positions are along rows and
    columns, as in ViTDet, but scaled as the scores are.
    """
    picture = vit(
        image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads, drop_path=drop_path
    )
    everywhere, every = _attention(heads, image // patch), max(depth // max(whole, 1), 1)
    windows = spec(FilledWindows, mixer=_attention(heads, window), size=window)
    blocks = tuple(
        block.but(mixer=windows if number % every else everywhere)
        for number, block in enumerate(picture.get("backbone.blocks"), 1)
    )
    text = git(
        vocabulary=vocabulary, length=length, width=text_width, depth=text_depth, heads=text_heads, tied=True,
        dropout=dropout, attention_dropout=dropout,
    )  # fmt: skip
    describer = text.spec.but(
        source=spec(Patches, patch=1, channels=hidden, image=side, norm=spec(LayerNorm)),
        encoder=spec(Encoder, blocks=()),
        source_width=None,
        target=text.get("target").but(norm=spec(LayerNorm, eps=1e-8)),
    )
    return Design(
        spec(
            Described,
            width=width,
            embedding=picture.get("embedding").but(first=0, positions=spec(LearnedGrid, grid=(pretrained,) * 2)),
            backbone=spec(SimplePyramid, body=spec(Encoder, blocks=blocks), to=hidden, coarser=coarser),
            head=spec(
                Regions,
                proposals=spec(CenterProposals, groups=groups),
                looks=(spec(RegionMLP, hidden=look_hidden),) * looks,
                before=before,
                count=count,
            ),
            describer=describer,
            side=side,
            start=spec(Xavier),
        )
    )


def _attention(heads: int, side: int) -> Spec[Attention]:
    """Attention that knows how many rows and columns lie between cells of a map of so many cells a side."""
    axes = tuple(spec(Relative, farthest=max(side - 1, 1), axis=axis) for axis in (0, 1))
    return spec(Attention, heads=heads, positions=spec(Combined, positions=axes))
