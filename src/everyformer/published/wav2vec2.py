"""wav2vec 2.0 (Baevski et al., 2020) and HuBERT (Hsu et al., 2021)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.contracts import Head
from everyformer.designs import Design
from everyformer.embeddings import MaskedWaves, WaveConvs
from everyformer.feedforward import MLP
from everyformer.heads import CodePredictor, ProductQuantizer, TokenHead
from everyformer.mixers import Attention
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PostNorm, PreNorm
from everyformer.positions import ConvPlaces
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "wav2vec2",
    title="wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
    authors="Baevski et al.",
    year=2020,
    arxiv="2006.11477",
    idea="A transformer on convolutions of raw sound learns from hidden stretches of it; little labelled speech is enough.",
    tasks=("speech-recognition",),
    default="base",
    sizes={
        "base": {},
        "large": {"width": 1024, "hidden": 4096, "depth": 24, "heads": 16, "layered": True},
    },
)
def wav2vec2(
    *,
    vocabulary: int | None = 32,
    width: int = 768,
    hidden: int = 3072,
    depth: int = 12,
    heads: int = 12,
    convs: tuple[int, ...] = (512,) * 7,
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2),
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2),
    samples: int = 16000,
    places: int = 128,
    groups: int = 16,
    activation: str = "gelu",
    layered: bool = False,
    conv_bias: bool = False,
    pre_norm: bool | None = None,
    books: int = 2,
    codes: int = 320,
    code_width: int = 256,
    output: int = 256,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    eps: float = 1e-5,
) -> Design:
    """Section 2, with the head that is fine-tuned to letters (section 3.3); HuBERT (2106.07447) has the same body.

    Without a `vocabulary` it is the model that is pretrained with `objectives.HiddenCodes`: frames can be hidden, and
    vectors of width `output` are compared with `codes` from each of `books`, `code_width` wide together (section 3.2).
    `layered`: a norm after every convolution, and, unless `pre_norm` says other, norms in front of layers (their LARGE).
    """
    norm = spec(LayerNorm, eps=eps)
    first = layered if pre_norm is None else pre_norm
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=attention_dropout),
        feedforward=spec(MLP, hidden=hidden, activation=activation),
        residual=spec(PreNorm if first else PostNorm, norm=norm, dropout=dropout),
    )
    head: Spec[Head] = (
        spec(
            CodePredictor,
            quantizer=spec(ProductQuantizer, output=code_width, books=books, codes=codes),
            channels=convs[-1],
            output=output,
        )
        if vocabulary is None
        else spec(TokenHead, vocabulary=vocabulary, bias=True)
    )
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(
                MaskedWaves if vocabulary is None else WaveConvs,
                widths=convs,
                kernels=kernels,
                strides=strides,
                bias=conv_bias,
                each=spec(LayerNorm) if layered else None,
                eps=eps,
                samples=samples,
                positions=spec(ConvPlaces, kernel=places, groups=groups),
                norm=None if first else norm,
                dropout=dropout,
            ),
            backbone=spec(Encoder, blocks=(block,) * depth, norm=norm if first else None),
            head=head,
            start=spec(Normal, std=0.02),
        )
    )
