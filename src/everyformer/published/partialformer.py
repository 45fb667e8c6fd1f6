"""PartialFormer (Zheng et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder, Encoder, FirstScores
from everyformer.contracts import Backbone, Mixer, ScoreStep
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.heads import TiedHead
from everyformer.mixers import CrossedAttention, CrossedCrossAttention, PartialAttention, PartialCrossAttention
from everyformer.models import Seq2Seq, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Sinusoidal
from everyformer.registry import system
from everyformer.scores import Added, HeadMLP
from everyformer.specs import Spec, spec


@system(
    "partialformer",
    title="PartialFormer: Modeling Part Instead of Whole for Machine Translation",
    authors="Zheng et al.",
    year=2024,
    arxiv="2310.14921",
    idea="No feedforward on the whole token: a small one, shared by the heads, on what each head answers, and many heads.",
    tasks=("translation",),
    default="base",
    sizes={
        "tiny": {
            "width": 128, "depth": 4, "decoder_depth": 4, "heads": 4, "value_heads": 8, "decoder_value_heads": 6,
            "dropout": 0.3,
        },
        "base": {"width": 360, "depth": 24, "decoder_depth": 6, "heads": 8},
    },
)  # fmt: skip
def partialformer(
    *,
    vocabulary: int = 37000,
    width: int = 360,
    depth: int = 24,
    decoder_depth: int = 6,
    heads: int = 8,
    value_heads: int = 30,
    decoder_value_heads: int = 16,
    crossed: int | None = None,
    ratio: int = 4,
    decoder_ratio: int = 2,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
) -> Design:
    """The authors' training script: head scaling by a layer over the heads, first scores in encoder and decoder.

    With `crossed` there is a head for each pair of so many queries and keys, in the place of `heads` that are spread ("m2m").
    """
    each = width // heads
    if crossed is not None:
        value_heads = decoder_value_heads = crossed**2

    def scaled(plain: type, pairs: type, values: int, ratio: int, *more: Spec[ScoreStep]) -> Spec[Mixer]:
        if crossed is None:
            way, few = plain, {"heads": heads, "value_heads": values}
        else:
            way, few = pairs, {"key_heads": crossed, "head_width": each}
        return spec(way, **few, ratio=ratio, steps=(spec(HeadMLP, to=values), *more), dropout=attention_dropout)

    def block(values: int, ratio: int, *cross: Spec[Mixer]) -> Spec[Backbone]:
        mixer = scaled(PartialAttention, CrossedAttention, values, ratio, spec(Added))
        return spec(Block, mixer=mixer, cross=cross, feedforward=None, residual=spec(PreNorm, dropout=dropout))

    encode = block(value_heads, ratio)
    cross = scaled(PartialCrossAttention, CrossedCrossAttention, decoder_value_heads, decoder_ratio)
    decode = block(decoder_value_heads, decoder_ratio, cross)
    return Design(
        spec(
            Seq2Seq,
            width=width,
            source=spec(Text, vocabulary=vocabulary, positions=spec(Sinusoidal), scaled=True, dropout=dropout),
            encoder=spec(
                FirstScores, heads=value_heads, head_width=each,
                body=spec(Encoder, blocks=(encode,) * depth, norm=spec(LayerNorm)),
            ),
            decoder=spec(
                FirstScores, heads=decoder_value_heads, head_width=each,
                body=spec(Decoder, blocks=(decode,) * decoder_depth, norm=spec(LayerNorm)),
            ),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Xavier),
        )
    )  # fmt: skip
