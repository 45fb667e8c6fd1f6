"""ALONE (Takase and Kobayashi, 2020)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import BinaryFilters
from everyformer.published.transformer import transformer
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "alone",
    title="All Word Embeddings from One Embedding",
    authors="Takase and Kobayashi",
    year=2020,
    arxiv="2004.12073",
    idea="The vector of every word is one learned vector through a fixed random filter of the word and a small network.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "inner": 512, "dropout": 0.3},
        "base": {"width": 512, "hidden": 2048, "depth": 6, "heads": 8},
    },
)
def alone(
    *,
    vocabulary: int = 37000,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 6,
    heads: int = 8,
    inner: int = 4096,
    books: int = 8,
    codes: int = 64,
    table_dropout: float = 0.1,
    dropout: float = 0.1,
    pre_norm: bool = False,
) -> Design:
    """Section 3: a Transformer whose one table, of source, target and output, is made by a network of `inner` units."""
    body = transformer(
        vocabulary=vocabulary, width=width, hidden=hidden, depth=depth, heads=heads, dropout=dropout, pre_norm=pre_norm
    )
    return body.set("source.table", spec(BinaryFilters, hidden=inner, books=books, codes=codes, dropout=table_dropout))
