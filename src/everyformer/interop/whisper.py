"""Whisper."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.interop import bart, variants
from everyformer.interop.config import Config, Custom, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Keyless
from everyformer.interop.wav2vec2 import CLASSIFIES
from everyformer.interop.weights import Pair, layer
from everyformer.published.whisper import whisper
from everyformer.tokens import Tokens


def frames(config: Config) -> dict[str, Any]:
    """Two frames for each place."""
    return {"frames": 2 * config.value("max_source_positions", 1500)}


def write_frames(place: str, design: Design) -> dict[str, Any]:
    """The same, from the embedding at a place."""
    return {"max_source_positions": design.get(f"{place}.frames") // 2}


def sines(model: Any) -> Tensor:
    """The fixed positions of the encoder, which may stand alone."""
    source = model.source if hasattr(model, "source") else model.embedding
    return source.positions(Tokens(torch.zeros(1, source.frames // 2, source.width)))[0]


def words() -> list[Pair]:
    """The embedding of what is said."""
    return [
        *layer("target.table", "decoder.embed_tokens", bias=False),
        *layer("target.positions.table", "decoder.embed_positions", bias=False),
    ]


def table(design: Design) -> list[Pair]:
    """Both stacks; keys have no biases."""
    cross = "decoder.layers.*.encoder_attn"
    return [
        *layer("source.convs.0", "encoder.conv1"),
        *layer("source.convs.1", "encoder.conv2"),
        *words(),
        Pair("decoder.blocks.*.cross.0.key_value.bias", (f"{cross}.v_proj.bias",), Keyless()),
        *bart.stacks(Keyless()),
    ]


MELS = Key("num_mel_bins", "source.mels", "mels", default=80)
LENGTH = Key("max_target_positions", "target.positions.length", "length", default=448)
register(
    Family(
        name="whisper",
        system="whisper",
        settings=(
            *(each for each in bart.SIZES if each != bart.VOCABULARY),
            Key("vocab_size", "target.vocabulary", "vocabulary"),
            MELS,
            LENGTH,
            Custom(frames, partial(write_frames, "source")),
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
register(
    Family(
        name="whisper",
        system="whisper",
        make=variants.encoder(whisper),
        settings=(
            *bart.stack("encoder", "depth"),
            replace(MELS, at="embedding.mels"),
            Custom(frames, partial(write_frames, "embedding")),
        ),
        table=lambda design: variants.alone(table(design), "encoder"),
        only={"use_weighted_layer_sum": False},
        tops={"WhisperForAudioClassification": CLASSIFIES},
        fixed={"encoder.embed_positions.weight": sines},
    )
)
register(
    Family(
        name="whisper",
        system="whisper",
        make=variants.decoder(whisper),
        settings=(
            *bart.stack("decoder", "decoder_depth"),
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            replace(LENGTH, at="embedding.positions.length"),
        ),
        table=lambda design: bart.writing(words(), Keyless()),
        prefix="model",
        only={"scale_embedding": False, "tie_word_embeddings": True},
        tops={"WhisperForCausalLM": Top(table=(*layer("head.project", "proj_out", bias=False),))},
        unused=("*.encoder_attn.*", "*.encoder_attn_layer_norm.*"),
    )
)
