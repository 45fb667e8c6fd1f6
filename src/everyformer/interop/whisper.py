"""Whisper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.interop import bart
from everyformer.interop.config import Config, Custom, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Keyless
from everyformer.interop.weights import Pair, layer
from everyformer.tokens import Tokens


def frames(config: Config) -> dict[str, Any]:
    """Two frames for each place."""
    return {"frames": 2 * config.value("max_source_positions", 1500)}


def sines(model: Any) -> Tensor:
    """The fixed positions of the encoder."""
    count, width = model.source.frames // 2, model.source.width
    return model.source.positions(Tokens(torch.zeros(1, count, width)))[0]


def table(design: Design) -> list[Pair]:
    """Both stacks; keys have no biases."""
    cross = "decoder.layers.*.encoder_attn"
    return [
        *layer("source.convs.0", "encoder.conv1"),
        *layer("source.convs.1", "encoder.conv2"),
        *layer("target.table", "decoder.embed_tokens", bias=False),
        *layer("target.positions.table", "decoder.embed_positions", bias=False),
        Pair("decoder.blocks.*.cross.0.key_value.bias", (f"{cross}.v_proj.bias",), Keyless()),
        *bart.stacks(Keyless()),
    ]


register(
    Family(
        name="whisper",
        system="whisper",
        settings=(
            *(each for each in bart.SIZES if each != bart.VOCABULARY),
            Key("vocab_size", "target.vocabulary", "vocabulary"),
            Key("num_mel_bins", "source.mels", "mels", default=80),
            Key("max_target_positions", "target.positions.length", "length", default=448),
            Custom(frames, lambda design: {"max_source_positions": design.get("source.frames") // 2}),
        ),
        table=table,
        prefix="model",
        only={"scale_embedding": False, "tie_word_embeddings": True},
        tops={
            "WhisperForConditionalGeneration": Top(table=(*layer("head.project", "proj_out", bias=False),)),
            "WhisperModel": Top(head=lambda config: None, prefix=""),
        },
        fixed={"encoder.embed_positions.weight": sines},
    )
)
