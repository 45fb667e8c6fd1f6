"""Qwen 2 and Qwen 3: a Llama with biases, and one with norms on queries and keys."""

from __future__ import annotations

from dataclasses import replace

from everyformer.interop.config import Always, Custom
from everyformer.interop.family import Family, register
from everyformer.interop.llama import HEAD_WIDTH, SETTINGS, biases, table, tops, write_biases

_ONLY = {"hidden_act": "silu", "use_sliding_window": False}

register(
    Family(
        name="qwen2",
        system="llama",
        settings=(*(each for each in SETTINGS if each is not HEAD_WIDTH), Always("bias", True)),
        table=table,
        prefix="model",
        only=_ONLY,
        tops=tops("Qwen2"),
    )
)
register(
    Family(
        name="qwen3",
        system="llama",
        settings=(
            *(replace(each, default=128) if each is HEAD_WIDTH else each for each in SETTINGS),
            Custom(biases, write_biases),
            Always("query_key_norm", True),
        ),
        table=table,
        prefix="model",
        only=_ONLY,
        tops=tops("Qwen3"),
    )
)
