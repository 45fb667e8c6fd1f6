"""Transformers whose attention is linear by way of features or of a low rank."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import CosineFeatures, LinearAttention, Linformer, PositiveFeatures
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm
from everyformer.positions import Learned
from everyformer.published.bert import bert
from everyformer.published.gpt import gpt
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec

NANO = {"width": 128, "depth": 4, "heads": 4, "length": 64}
BASE = {"width": 768, "depth": 12, "heads": 12, "length": 512}


@system(
    "linear-transformer",
    title="Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
    authors="Katharopoulos et al.",
    year=2020,
    arxiv="2006.16236",
    idea="Exchange softmax for a product of features: attention becomes linear in time, and a recurrence when it generates.",
    tasks=("language-modelling",),
    default="mnist",
    sizes={
        "nano": NANO,
        "mnist": {"width": 256, "depth": 8, "heads": 8, "length": 784},
        "cifar": {"width": 256, "depth": 16, "heads": 8, "length": 3072},
    },
)
def linear_transformer(
    *,
    vocabulary: int = 256,
    length: int = 784,
    width: int = 256,
    hidden: int | None = None,
    depth: int = 8,
    heads: int = 8,
    dropout: float = 0.0,
) -> Design:
    """Sections 3.2 to 3.4; images are generated pixel by pixel (section 4.2)."""
    block = spec(
        Block,
        mixer=spec(LinearAttention, heads=heads),
        feedforward=spec(MLP, hidden=hidden or 4 * width),
        residual=spec(PostNorm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )


@system(
    "performer",
    title="Rethinking Attention with Performers",
    authors="Choromanski et al.",
    year=2021,
    arxiv="2009.14794",
    idea="Positive orthogonal random features estimate softmax attention without bias, in linear time.",
    tasks=("language-modelling",),
    default="protein",
    sizes={"nano": NANO, "protein": {"width": 512, "depth": 36, "heads": 8, "hidden": 1024}},
)
@upon(gpt, vocabulary=30, width=512, depth=36)
def performer(design: Design, *, heads: int = 8, features: int = 256) -> Design:
    """Section 2.3 (FAVOR+) in a causal pre-norm decoder; sizes of section A.4."""
    mixer = spec(LinearAttention, heads=heads, features=spec(PositiveFeatures, features=features))
    return design.swap("backbone.blocks.*.mixer", mixer)


@upon(
    bert,
    fixed={"heads": 1, "segments": 0, "attention_dropout": 0.0, "eps": 1e-5},
    vocabulary=50265,
)
def roberta(design: Design) -> Design:
    """RoBERTa, to put another mixer into."""
    return design


@system(
    "cosformer",
    title="cosFormer: Rethinking Softmax in Attention",
    authors="Qin et al.",
    year=2022,
    arxiv="2202.08791",
    idea="Features that are not negative, reweighted by the cosine of the distance, stand in for softmax.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": NANO, "base": BASE},
)
@upon(roberta)
def cosformer(design: Design, *, length: int = 512, heads: int = 12) -> Design:
    """Section 3.2 in place of RoBERTa's attention (section 4.2)."""
    mixer = spec(LinearAttention, heads=heads, features=spec(CosineFeatures, length=length))
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "linformer",
    title="Linformer: Self-Attention with Linear Complexity",
    authors="Wang et al.",
    year=2020,
    arxiv="2006.04768",
    idea="Attention has low rank: keys and values are first summed along the sequence into a few.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": {**NANO, "rank": 16}, "base": BASE},
)
@upon(roberta)
def linformer(design: Design, *, length: int = 512, heads: int = 12, rank: int = 128, dropout: float = 0.1) -> Design:
    """Section 4, with projections shared by heads, in place of RoBERTa's attention (section 5)."""
    mixer = spec(Linformer, heads=heads, length=length, rank=rank, dropout=dropout)
    return design.swap("backbone.blocks.*.mixer", mixer)
