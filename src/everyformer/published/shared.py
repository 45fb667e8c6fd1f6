"""Transformers whose layers share their weights: ALBERT, the Universal Transformer, Subformer, AlgoFormer."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import AdaptiveLoop, Block, Decoder, Encoder, Injection, Loop, TurnSignal
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead, Narrow, TiedHead, TokenHead, Transform
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Model, Normal, Seq2Seq, Xavier
from everyformer.norms import LayerNorm, PostNorm, PreNorm
from everyformer.positions import Learned, Sinusoidal
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "albert",
    title="ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
    authors="Lan et al.",
    year=2020,
    arxiv="1909.11942",
    idea="BERT with one layer run many times over and a narrow table of words mapped to the width: far fewer parameters.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={
        "tiny": {"width": 128, "depth": 4, "heads": 2, "table_width": 64},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
        "xlarge": {"width": 2048, "depth": 24, "heads": 16},
        "xxlarge": {"width": 4096, "depth": 12, "heads": 64},
    },
)
def albert(
    *,
    vocabulary: int = 30000,
    classes: int | None = None,
    length: int = 512,
    width: int = 768,
    hidden: int | None = None,
    depth: int = 12,
    groups: int = 1,
    inner: int = 1,
    heads: int = 12,
    table_width: int = 128,
    segments: int = 2,
    activation: str = "gelu_tanh",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    head_dropout: float = 0.1,
    eps: float = 1e-12,
) -> Design:
    """Section 3.1. `groups` of layers have weights of their own, `inner` of them each; it classifies where `classes` is given."""
    norm = spec(LayerNorm, eps=eps)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=attention_dropout),
        feedforward=spec(MLP, hidden=hidden or 4 * width, activation=activation),
        residual=spec(PostNorm, norm=norm, dropout=dropout),
    )
    if depth % groups:
        raise ValueError(f"depth {depth} does not fall into {groups} groups of equal size")
    head: Spec[Any]
    if classes is None:
        transform = spec(Transform, norm=norm, activation=activation, output=table_width)
        head = spec(TiedHead, vocabulary=vocabulary, bias=True, transform=transform, table_width=table_width)
    else:
        head = spec(ClassHead, classes=classes, hidden=True, dropout=head_dropout)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                Text,
                vocabulary=vocabulary,
                positions=spec(Learned, length=length),
                segments=segments,
                table_width=table_width,
                norm=norm,
                dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(spec(Loop, blocks=(block,) * inner, times=depth // groups),) * groups),
            head=head,
            start=spec(Normal, std=0.02),
        )
    )


@system(
    "universal-transformer",
    title="Universal Transformers",
    authors="Dehghani et al.",
    year=2019,
    arxiv="1807.03819",
    idea="One layer over and over, told at each turn where it is in text and in depth, until each token halts by itself.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "turns": 4, "heads": 4},
        "base": {"width": 1024, "hidden": 4096, "turns": 6, "heads": 16},
    },
)
def universal_transformer(
    *,
    vocabulary: int = 37000,
    width: int = 1024,
    hidden: int = 4096,
    turns: int = 6,
    heads: int = 16,
    adaptive: bool = True,
    cost: float = 0.01,
    dropout: float = 0.1,
) -> Design:
    """Section 2, with the transition function a feedforward; `adaptive` tokens halt by themselves (section 2.2)."""
    residual = spec(PostNorm, dropout=dropout)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden, activation="relu"),
        residual=residual,
    )
    crossing = block.but(cross=(spec(CrossAttention, heads=heads),))

    def over(layer: Spec[Any]) -> Spec[Any]:
        loop = spec(Loop, blocks=(layer,), times=turns, entrance=spec(TurnSignal))
        return Spec(AdaptiveLoop, {**loop.options, "cost": cost}) if adaptive else loop

    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, scaled=True, dropout=dropout),
            encoder=spec(Encoder, blocks=(over(block),)),
            decoder=spec(Decoder, blocks=(over(crossing),)),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )


@system(
    "subformer",
    title="Subformer: Exploring Weight Sharing for Parameter Efficiency in Generative Transformers",
    authors="Reid et al.",
    year=2021,
    arxiv="2101.00234",
    idea="All layers but the first and the last are one, and a narrow table of words is made wide after a little attention.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "table_width": 64, "dropout": 0.3},
        "base": {"width": 512, "hidden": 2048, "depth": 6, "heads": 8},
    },
)
def subformer(
    *,
    vocabulary: int = 37000,
    width: int = 512,
    hidden: int = 2048,
    depth: int = 6,
    heads: int = 8,
    table_width: int = 320,
    dropout: float = 0.2,
) -> Design:
    """Section 3: sandwich-style sharing in encoder and decoder, and self-attentive factorised embeddings."""
    if depth < 3:
        raise ValueError(f"the first, the last and the shared layers are at least 3; given depth {depth}")
    residual = spec(PreNorm, dropout=dropout)
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads),
        feedforward=spec(MLP, hidden=hidden, activation="relu"),
        residual=residual,
    )

    def stack(kind: type[Encoder], layer: Spec[Any]) -> Spec[Any]:
        middle = spec(Loop, blocks=(layer,), times=depth - 2)
        return spec(kind, blocks=(layer, middle, layer), norm=spec(LayerNorm))

    def embedding(kind: type[Encoder]) -> Spec[Any]:
        attend = spec(Block, mixer=spec(Attention, heads=heads), feedforward=None, residual=residual)
        return spec(
            Text, vocabulary=vocabulary, positions=spec(Sinusoidal), scaled=True, table_width=table_width,
            body=spec(kind, blocks=(attend,)), dropout=dropout,
        )  # fmt: skip

    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=embedding(Encoder),
            target=embedding(Decoder),
            encoder=stack(Encoder, block),
            decoder=stack(Decoder, block.but(cross=(spec(CrossAttention, heads=heads),))),
            head=spec(
                TiedHead,
                vocabulary=vocabulary,
                table_width=table_width,
                transform=spec(Narrow, output=table_width),
            ),
            start=spec(Xavier),
        )
    )


@system(
    "algoformer",
    title="On the Expressive Power of a Variant of the Looped Transformer",
    authors="Gao et al.",
    year=2024,
    arxiv="2402.13572",
    idea="Before a loop of one layer a layer that prepares, after it one that reads out: as an algorithm is made.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {"width": 128, "turns": 2, "heads": 4, "length": 64},
        "small": {"width": 256, "turns": 20, "heads": 8},
    },
)
def algoformer(
    *,
    vocabulary: int = 50257,
    length: int = 1024,
    width: int = 256,
    pre: int = 1,
    loop: int = 1,
    post: int = 1,
    turns: int = 20,
    heads: int = 8,
    injected: bool = False,
    dropout: float = 0.0,
) -> Design:
    """Section 3.1, for tokens of a vocabulary; `injected` adds what entered the loop at each turn (Yang et al., 2024)."""
    residual = spec(PreNorm, dropout=dropout)
    block = spec(Block, mixer=spec(Attention, heads=heads), feedforward=spec(MLP), residual=residual)
    entrance = spec(Injection) if injected else None
    looped = spec(Loop, blocks=(block,) * loop, times=turns, entrance=entrance)
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary, positions=spec(Learned, length=length), dropout=dropout),
            backbone=spec(Decoder, blocks=((block,) * pre + (looped,) + (block,) * post), norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
