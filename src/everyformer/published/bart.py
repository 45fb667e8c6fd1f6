"""BART (Lewis et al., 2020) and its kin."""

from __future__ import annotations

from typing import Any

from everyformer.backbones import Block, Decoder, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text, TiedText
from everyformer.feedforward import MLP
from everyformer.heads import TiedHead
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import Normal, Seq2Seq
from everyformer.norms import LayerNorm, PostNorm, PreNorm
from everyformer.positions import Learned, SinusoidalHalves
from everyformer.registry import system
from everyformer.specs import Spec, spec

_MARIAN = {
    "vocabulary": 58101, "length": None, "width": 512, "hidden": 2048, "depth": 6, "heads": 8, "activation": "silu",
    "scaled": True, "embedding_norm": False,
}  # fmt: skip


@system(
    "bart",
    title="BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and Comprehension",
    authors="Lewis et al.",
    year=2020,
    arxiv="1910.13461",
    idea="Corrupt a text at will, and train an encoder-decoder to write what it was.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 256, "depth": 4, "heads": 4, "dropout": 0.3},
        "base": {"width": 768, "hidden": 3072, "depth": 6, "heads": 12},
        "large": {"width": 1024, "hidden": 4096, "depth": 12, "heads": 16},
        "mbart-large": {
            "vocabulary": 250027, "width": 1024, "hidden": 4096, "depth": 12, "heads": 16, "scaled": True,
            "pre_norm": True,
        },
        "marian": _MARIAN,
    },
)  # fmt: skip
def bart(
    *,
    vocabulary: int = 50265,
    length: int | None = 1024,
    target_length: int | None = None,
    width: int = 768,
    hidden: int = 3072,
    depth: int = 6,
    decoder_depth: int | None = None,
    heads: int = 12,
    activation: str = "gelu",
    scaled: bool = False,
    embedding_norm: bool = True,
    pre_norm: bool = False,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
) -> Design:
    """Section 2.1: one table for source, target and answer; each stack has positions of its own and a norm after them.

    mBART (2001.08210, section 2.1) is `scaled`, `pre_norm`, and has a norm after each stack. Marian's models (Tiedemann
    and Thottingal, OPUS-MT, 2020) have fixed positions (`length` None) and no `embedding_norm`.
    """
    residual = spec(PreNorm if pre_norm else PostNorm, dropout=dropout)
    attention = spec(Attention, heads=heads, dropout=attention_dropout)
    cross = spec(CrossAttention, heads=heads, dropout=attention_dropout)
    mlp = spec(MLP, hidden=hidden, activation=activation)
    encode = spec(Block, mixer=attention, feedforward=mlp, residual=residual)
    decode = spec(Block, mixer=attention, cross=(cross,), feedforward=mlp, residual=residual)
    last = spec(LayerNorm) if pre_norm else None

    def embedding(kind: type[Text], places: int | None) -> Spec[Text]:
        positions = spec(SinusoidalHalves) if places is None else spec(Learned, length=places)
        more: dict[str, Any] = {"norm": spec(LayerNorm)} if embedding_norm else {}
        return spec(kind, vocabulary=vocabulary, positions=positions, scaled=scaled, dropout=dropout, **more)

    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=embedding(Text, length),
            target=embedding(TiedText, target_length or length),
            encoder=spec(Encoder, blocks=(encode,) * depth, norm=last),
            decoder=spec(Decoder, blocks=(decode,) * (decoder_depth or depth), norm=last),
            head=spec(TiedHead, vocabulary=vocabulary, bias=True),
            start=spec(Normal, std=0.02),
        )
    )
