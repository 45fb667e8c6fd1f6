"""Lane2Seq (Zhou, 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Seq2Seq, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Learned
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec

MARKS = ("start", "end", "lane", "segmentation", "anchor", "parameter")
"""The tokens after those of the numbers: the ends of a sequence, that of a lane, and what a format is asked for with."""


@system(
    "lane2seq",
    title="Lane2Seq: Towards Unified Lane Detection via Sequence Generation",
    authors="Zhou",
    year=2024,
    arxiv="2402.17172",
    idea="Lanes are written number by number; the first token says whether as polygons, as points or as curves.",
    tasks=("lane-detection",),
    default="base",
    sizes={"base": {}},
)
def lane2seq(
    *,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    picture_width: int = 768,
    picture_depth: int = 12,
    picture_heads: int = 12,
    bins: int = 1000,
    length: int = 512,
    width: int = 256,
    depth: int = 2,
    heads: int = 8,
    ratio: float = 4.0,
    dropout: float = 0.0,
) -> Design:
    """A plain ViT, and a plain decoder whose vocabulary are `bins` numbers from 0 to 1 and the MARKS (section 3); that the
    decoder's norms stand before its layers, and its sizes, are said here and not in the paper.
    """
    picture = vit(
        image=image, patch=patch, channels=channels, width=picture_width, depth=picture_depth, heads=picture_heads
    )
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=dropout),
        cross=(spec(CrossAttention, heads=heads, memory_width=picture_width, dropout=dropout),),
        feedforward=spec(MLP, hidden=int(ratio * width)),
        residual=spec(PreNorm, dropout=dropout),
    )
    vocabulary = bins + len(MARKS)
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source_width=picture_width,
            source=picture.get("embedding"),
            encoder=picture.get("backbone"),
            target=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            decoder=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary, bias=True),
            start=spec(Xavier),
        )
    )
