"""Language models whose tokens are mixed by a recurrence over a matrix, trained in parallel."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead, TokenHead
from everyformer.mixers import DeltaNet, GatedDeltaNet, GatedLinearAttention, Retention, StateSpace
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm, RMSNorm
from everyformer.positions import Rotary
from everyformer.published.llama import llama
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "retnet",
    title="Retentive Network: A Successor to Transformer for Large Language Models",
    authors="Sun et al.",
    year=2023,
    arxiv="2307.08621",
    idea="Heads that forget at fixed rates train in parallel and generate as a recurrence with constant memory.",
    tasks=("language-modelling",),
    default="1.3b",
    sizes={
        "nano": {"width": 128, "depth": 4, "heads": 4},
        "1.3b": {"width": 2048, "depth": 24, "heads": 8},
        "2.7b": {"width": 2560, "depth": 32, "heads": 10},
        "6.7b": {"width": 4096, "depth": 32, "heads": 16},
    },
)
def retnet(
    *, vocabulary: int = 32000, width: int = 2048, depth: int = 24, heads: int = 8, dropout: float = 0.0
) -> Design:
    """Sections 2.1 to 2.3, sizes of table 2: feedforwards of twice the width."""
    block = spec(
        Block,
        mixer=spec(Retention, heads=heads, positions=spec(Rotary)),
        feedforward=spec(MLP, hidden=2 * width, bias=False),
        residual=spec(PreNorm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, dropout=dropout),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )


@upon(
    llama,
    fixed={
        "heads": 1, "key_heads": None, "head_width": None, "base": 10000.0, "llama3": None, "bias": False,
        "output_bias": False, "query_key_norm": False, "window": None,
    },
    width=1024, depth=24, tied=True, eps=1e-5,
)  # fmt: skip
def _llama(design: Design) -> Design:
    """LLaMA, to put another mixer into."""
    return design


_NANO = {"width": 128, "hidden": 344, "depth": 4, "heads": 4}
_MEDIUM = {"width": 1024, "hidden": 2816, "depth": 24}
_LARGE = {"width": 2048, "hidden": 5632, "depth": 24}


@system(
    "gla",
    title="Gated Linear Attention Transformers with Hardware-Efficient Training",
    authors="Yang et al.",
    year=2024,
    arxiv="2312.06635",
    idea="Linear attention that forgets each channel as the tokens say, computed a chunk at a time.",
    tasks=("language-modelling",),
    default="340m",
    sizes={"nano": _NANO, "340m": {**_MEDIUM, "heads": 4}, "1.3b": {**_LARGE, "heads": 4}},
)
@upon(_llama)
def gla(design: Design, *, heads: int = 4) -> Design:
    """Section 4.4: LLaMA's layers around gated linear attention."""
    return design.swap("backbone.blocks.*.mixer", spec(GatedLinearAttention, heads=heads))


@system(
    "deltanet",
    title="Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
    authors="Yang et al.",
    year=2024,
    arxiv="2406.06484",
    idea="A linear transformer whose state is corrected by the delta rule recalls better, and trains in parallel by chunks.",
    tasks=("language-modelling",),
    default="340m",
    sizes={"nano": _NANO, "340m": {**_MEDIUM, "heads": 8}, "1.3b": {**_LARGE, "heads": 16}},
)
@upon(_llama)
def deltanet(design: Design, *, heads: int = 8, kernel: int = 4) -> Design:
    """Section 3: LLaMA's layers around the delta rule, with short convolutions and normalised queries and keys."""
    return design.swap("backbone.blocks.*.mixer", spec(DeltaNet, heads=heads, kernel=kernel))


@system(
    "gated-deltanet",
    title="Gated Delta Networks: Improving Mamba2 with Delta Rule",
    authors="Yang et al.",
    year=2025,
    arxiv="2412.06464",
    idea="The delta rule rewrites single entries of a memory and a gate clears all of it: together they recall and forget.",
    tasks=("language-modelling",),
    default="1.3b",
    sizes={"nano": {**_NANO, "head_width": 32, "expand": 1}, "1.3b": {**_LARGE, "heads": 6}},
)
@upon(_llama, width=2048)
def gated_deltanet(
    design: Design, *, heads: int = 6, head_width: int = 256, expand: int = 2, kernel: int = 4
) -> Design:
    """Section 3.3: LLaMA's layers around the gated delta rule."""
    mixer = spec(GatedDeltaNet, heads=heads, head_width=head_width, expand=expand, kernel=kernel)
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "mamba-2",
    title="Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality",
    authors="Dao and Gu",
    year=2024,
    arxiv="2405.21060",
    idea="A state space with one decay for each head is a kind of linear attention, and computed as one by chunks.",
    tasks=("language-modelling",),
    default="130m",
    sizes={
        "nano": {"width": 128, "depth": 4, "head_width": 32, "state": 32},
        "130m": {"width": 768, "depth": 24},
        "370m": {"width": 1024, "depth": 48},
        "780m": {"width": 1536, "depth": 48},
        "1.3b": {"width": 2048, "depth": 48},
        "2.7b": {"width": 2560, "depth": 64},
    },
)
def mamba2(
    *,
    vocabulary: int = 50288,
    width: int = 768,
    depth: int = 24,
    head_width: int = 64,
    expand: int = 2,
    state: int = 128,
    groups: int = 1,
    kernel: int = 4,
    bias: bool = False,
    convolution_bias: bool = True,
    tied: bool = True,
    eps: float = 1e-5,
) -> Design:
    """Section 7: blocks of a mixer alone, without feedforwards."""
    norm = spec(RMSNorm, eps=eps)
    mixer = spec(
        StateSpace, heads=expand * width // head_width, expand=expand, state=state, groups=groups, kernel=kernel,
        bias=bias, convolution_bias=convolution_bias, eps=eps,
    )  # fmt: skip
    block = spec(Block, mixer=mixer, feedforward=None, residual=spec(PreNorm, norm=norm))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=norm),
            head=spec(TiedHead if tied else TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )
