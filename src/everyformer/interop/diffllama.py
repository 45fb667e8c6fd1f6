"""The Differential Transformer, which Hugging Face calls DiffLlama."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop import llama
from everyformer.interop.config import Key
from everyformer.interop.family import Family, register
from everyformer.interop.weights import Pair


def table(design: Design) -> list[Pair]:
    """LLaMA's body, and the four vectors of each layer."""
    vectors = tuple(f"layers.*.self_attn.lambda_{name}" for name in ("q1", "k1", "q2", "k2"))
    return [*llama.table(design), Pair(f"{llama.BLOCK}.mixer.vectors", vectors)]


register(
    Family(
        name="diffllama",
        system="differential-transformer",
        settings=(
            *(each for each in llama.SETTINGS if getattr(each, "theirs", None) != "attention_dropout"),
            Key("attention_bias", f"{llama.BLOCK}.mixer.bias", "bias", default=False),
        ),
        table=table,
        prefix="model",
        only={"hidden_act": "silu", "attention_dropout": 0.0},
        tops=llama.tops("DiffLlama"),
    )
)
