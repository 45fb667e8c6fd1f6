"""Mistral: a Llama whose tokens see the last few thousand."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Config, Custom
from everyformer.interop.family import Family, register
from everyformer.interop.llama import FIRST, SETTINGS, table, tops
from everyformer.masks import Window


def window(config: Config) -> dict[str, Any]:
    """How many tokens each sees, itself included."""
    return {"window": config.get("sliding_window")}


def write_window(design: Design) -> dict[str, Any]:
    """The same, from the mask."""
    mask = design.get(f"{FIRST}.mask")
    return {"sliding_window": mask.before + 1 if isinstance(mask, Window) else None}


register(
    Family(
        name="mistral",
        system="llama",
        settings=(*SETTINGS, Custom(window, write_window)),
        table=table,
        prefix="model",
        only={"hidden_act": "silu"},
        tops=tops("Mistral", answers="model"),
    )
)
