"""AST, the Audio Spectrogram Transformer."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.heads import LeadingMean, PoolHead
from everyformer.interop.config import Config, Custom, Key, Labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.vit import BLOCKS, ENCODER, leading
from everyformer.interop.weights import Pair, layer
from everyformer.specs import spec


def stride(config: Config) -> dict[str, Any]:
    """One stride for both axes."""
    given = config.get("frequency_stride", 10), config.get("time_stride", 10)
    if given[0] != given[1]:
        raise BadInput(
            f"expected one stride for frequency and time; given frequency_stride={given[0]}, time_stride={given[1]}; "
            "give a model whose two strides are equal"
        )
    return {"stride": given[0]}


def write_stride(design: Design) -> dict[str, Any]:
    """The same for each axis."""
    return dict.fromkeys(("frequency_stride", "time_stride"), design.get("embedding.stride"))


def table(design: Design) -> list[Pair]:
    """The body."""
    tokens = [f"embeddings.{name}_token" for name in ("cls", "distillation")]
    return [
        *leading(*tokens, positions="embeddings.position_embeddings"),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *BLOCKS,
        *layer("backbone.norm", "layernorm"),
    ]


register(
    Family(
        name="audio-spectrogram-transformer",
        system="ast",
        settings=(
            *ENCODER,
            Key("max_length", "embedding.frames", "frames", default=1024),
            Key("num_mel_bins", "embedding.mels", "mels", default=128),
            Key("patch_size", "embedding.patch", "patch", default=16),
            Custom(stride, write_stride),
        ),
        table=table,
        prefix="audio_spectrogram_transformer",
        tops={
            "ASTForAudioClassification": Top(
                settings=(Labels("head.classes"),),
                table=(*layer("head.norm", "classifier.layernorm"), *layer("head.classify", "classifier.dense")),
            ),
            "ASTModel": Top(head=lambda config: spec(PoolHead, pool=spec(LeadingMean)), prefix=""),
        },
    )
)
