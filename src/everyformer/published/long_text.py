"""BERT's encoder with an attention that long texts can afford: Longformer, ETC, BigBird, Nystroemformer, YOSO, MRA and others."""

from __future__ import annotations

from everyformer.backbones import Summaries
from everyformer.designs import Design
from everyformer.embeddings import MarkedText
from everyformer.masks import Window
from everyformer.mixers import (
    BernoulliAttention,
    BigBirdAttention,
    LabelledGlobalLocal,
    LongformerAttention,
    MultiResolution,
    NystromAttention,
    RoutedGlobal,
    SampledBernoulliAttention,
)
from everyformer.published.bart import bart
from everyformer.published.bert import bert
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec

TASKS = ("masked-language-modelling", "text-classification")
BASE = {"width": 768, "depth": 12, "heads": 12}
TINY = {"width": 128, "depth": 2, "heads": 2}


@system(
    "longformer",
    title="Longformer: The Long-Document Transformer",
    authors="Beltagy et al.",
    year=2020,
    arxiv="2004.05150",
    idea="Every token sees a window, a few marked tokens see all and are seen by all: cost grows with the length.",
    tasks=TASKS,
    default="base",
    sizes={
        "tiny": {**TINY, "window": 64},
        "base": BASE,
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
@upon(bert, fixed={"table_width": None}, vocabulary=50265, length=4096, segments=1, eps=1e-5)
def longformer(design: Design, *, window: int | tuple[int, ...] = 512, leading: int = 1) -> Design:
    """Section 3 and 5: RoBERTa with windows of `window` tokens, half of them before and half after, one size for all
    layers or one for each; the first `leading` tokens and those that a batch has `marked` see all.
    """
    return marked(design, "embedding", "backbone.blocks", window, leading)


def marked(design: Design, embedding: str, blocks: str, window: int | tuple[int, ...], leading: int) -> Design:
    """A design whose `blocks` see windows, and whose `embedding` says which tokens see all."""
    options = {name: value for name, value in design.get(embedding).options.items() if name != "table_width"}
    made = design.swap(embedding, spec(MarkedText, leading=leading, **options))
    depth = len(design.get(blocks))
    for i, each in enumerate(window if isinstance(window, tuple) else (window,) * depth):
        old = design.get(f"{blocks}.{i}.mixer").options
        made = made.swap(f"{blocks}.{i}.mixer", spec(LongformerAttention, mask=Window(each // 2, each // 2), **old))
    return made


@system(
    "led",
    title="Longformer: The Long-Document Transformer",
    authors="Beltagy et al.",
    year=2020,
    arxiv="2004.05150",
    idea="A BART whose encoder sees windows and a few marked tokens, so that it can read and summarise long documents.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "window": 64, "length": 1024, "dropout": 0.3},
        "base": {"width": 768, "hidden": 3072, "depth": 6, "heads": 12},
        "large": {"width": 1024, "hidden": 4096, "depth": 12, "heads": 16},
    },
)
@upon(bart, fixed={"scaled": False, "embedding_norm": True}, length=16384, target_length=1024)
def led(design: Design, *, window: int | tuple[int, ...] = 1024, leading: int = 1) -> Design:
    """Section 7: the encoder of BART as `longformer` has it, for sources of `length`; the decoder attends to all of it."""
    return marked(design, "source", "encoder.blocks", window, leading)


@system(
    "etc",
    title="ETC: Encoding Long and Structured Inputs in Transformers",
    authors="Ainslie et al.",
    year=2020,
    arxiv="2004.08483",
    idea="Every token sees a window and one summary of each block; summaries see all; labels say who belongs to whom.",
    tasks=TASKS,
    default="base",
    sizes={
        "tiny": {**TINY, "window": 16, "block": 8},
        "base": BASE,
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
@upon(bert, fixed={"segments": 0, "length": 512}, vocabulary=30522)
def etc(
    design: Design,
    *,
    heads: int = 12,
    window: int = 84,
    block: int = 16,
    farthest: int = 12,
    attention_dropout: float = 0.1,
) -> Design:
    """Section 3: `window` tokens on each side; positions are labels alone. Long tokens and summaries have queries, keys and
    values of their own (one of the variants of section 3.2), and a summary stands for `block` tokens of a plain text.
    """
    mask = Window(window, window)
    mixer = spec(LabelledGlobalLocal, heads=heads, mask=mask, farthest=farthest, dropout=attention_dropout)
    design = design.set("embedding.positions", None).swap("backbone.blocks.*.mixer", mixer)
    return design.swap("backbone", spec(Summaries, body=design.get("backbone"), block=block))


@system(
    "bigbird",
    title="Big Bird: Transformers for Longer Sequences",
    authors="Zaheer et al.",
    year=2020,
    arxiv="2007.14062",
    idea="A window, some random blocks and a few that see all keep what full attention can express at a linear cost.",
    tasks=TASKS,
    default="base",
    sizes={
        "tiny": {**TINY, "block": 16, "random": 1},
        "base": BASE,
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
@upon(bert, vocabulary=50358, length=4096, activation="gelu_tanh")
def bigbird(
    design: Design,
    *,
    heads: int = 12,
    block: int = 64,
    random: int = 3,
    attention_dropout: float = 0.1,
) -> Design:
    """BigBird-ITC (appendix E.1, table 8): each layer draws random blocks of its own, the same for all heads."""
    for i in range(len(design.get("backbone.blocks"))):
        mixer = spec(BigBirdAttention, heads=heads, block=block, random=random, seed=i, dropout=attention_dropout)
        design = design.swap(f"backbone.blocks.{i}.mixer", mixer)
    return design


@system(
    "nystromformer",
    title="Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention",
    authors="Xiong et al.",
    year=2021,
    arxiv="2102.03902",
    idea="A few landmark queries and keys stand for all of them: the softmax matrix by the Nyström method, at linear cost.",
    tasks=TASKS,
    default="base",
    sizes={"tiny": {**TINY, "landmarks": 16, "kernel": 33}, "base": BASE},
)
@upon(
    bert,
    vocabulary=30000,
    length=510,
    activation="gelu_tanh",
    eps=1e-5,
)
def nystromformer(
    design: Design, *, heads: int = 12, landmarks: int = 64, kernel: int | None = 65, attention_dropout: float = 0.1
) -> Design:
    """Section 4.1: BERT with 64 landmarks and a convolution of the values beside each attention."""
    mixer = spec(NystromAttention, heads=heads, landmarks=landmarks, kernel=kernel, dropout=attention_dropout)
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "yoso",
    title="You Only Sample (Almost) Once: Linear Cost Self-Attention Via Bernoulli Sampling",
    authors="Zeng et al.",
    year=2021,
    arxiv="2111.09714",
    idea="A key counts for a query by the chance that a hash puts both into one bucket, and some hashes are enough to know it.",
    tasks=TASKS,
    default="base",
    sizes={"tiny": {**TINY, "bits": 4, "hashes": 16}, "base": BASE},
)
@upon(bert, fixed={"attention_dropout": 0.0}, vocabulary=50265, length=4096, segments=1)
def yoso(
    design: Design, *, heads: int = 12, bits: int = 9, hashes: int | None = 64, kernel: int | None = None
) -> Design:
    """Section 4: BERT whose attention is sampled by `hashes` of `bits` bits; None: what they come to on average."""
    if hashes is None:
        return design.swap("backbone.blocks.*.mixer", spec(BernoulliAttention, heads=heads, bits=bits, kernel=kernel))
    mixer = spec(SampledBernoulliAttention, heads=heads, bits=bits, hashes=hashes, kernel=kernel)
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "mra-attention",
    title="Multi Resolution Analysis (MRA) for Approximate Self-Attention",
    authors="Zeng et al.",
    year=2022,
    arxiv="2207.10284",
    idea="Scores of block means everywhere, exact scores only in the blocks where those are largest.",
    tasks=TASKS,
    default="base",
    sizes={"tiny": {**TINY, "block": 16, "exact": 2}, "base": BASE},
)
@upon(
    bert,
    fixed={"attention_dropout": 0.0},
    vocabulary=50265,
    segments=1,
    eps=1e-5,
)
def mra(
    design: Design, *, heads: int = 12, block: int = 32, exact: int = 4, first: int = 0, diagonal: int = 0
) -> Design:
    """MRA-2 in RoBERTa (section 5.1): `exact` blocks for each row of blocks, shared out among the rows by need."""
    mixer = spec(MultiResolution, heads=heads, block=block, exact=exact, first=first, diagonal=diagonal)
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "hypothesis-d",
    title="Hypothesis D: integrating local and global attention dynamically for efficient text processing",
    authors="a hypothesis without a paper",
    year=2025,
    idea="Every token sees a window; the tokens of the segments that a router finds important see all and are seen by all.",
    tasks=TASKS,
    default="base",
    sizes={"tiny": {**TINY, "window": 16, "segment": 8}, "base": BASE},
)
@upon(bert, length=4096)
def hypothesis_d(
    design: Design,
    *,
    heads: int = 12,
    window: int = 128,
    segment: int = 32,
    chosen: int = 2,
    attention_dropout: float = 0.1,
) -> Design:
    """BERT in which each layer chooses `chosen` segments of `segment` tokens; `chosen=0` is a window alone."""
    mask = Window(window // 2, window // 2)
    mixer = spec(RoutedGlobal, heads=heads, mask=mask, segment=segment, chosen=chosen, dropout=attention_dropout)
    return design.swap("backbone.blocks.*.mixer", mixer)
