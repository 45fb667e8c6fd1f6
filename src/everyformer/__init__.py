"""Everyformer: every published transformer design, made of parts that fit each other."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from everyformer import (
        backbones,
        compression,
        embeddings,
        feedforward,
        generation,
        heads,
        interop,
        interpret,
        masks,
        mixers,
        models,
        norms,
        objectives,
        positions,
        reduction,
        scores,
    )  # fmt: skip
    from everyformer.context import Cache, Context
    from everyformer.designs import Design
    from everyformer.edits import insert, keep, remove, resize, swap
    from everyformer.errors import BadInput, DoesNotFit, EveryformerError, UnknownName
    from everyformer.interop.checkpoint import Checkpoint, load
    from everyformer.registry import method, methods, part, parts, system, systems
    from everyformer.report.look import look
    from everyformer.specs import Spec, spec
    from everyformer.tokens import Tokens

_HOMES = {
    "Cache": "context", "Context": "context", "Design": "designs", "Spec": "specs", "Tokens": "tokens",
    "insert": "edits", "keep": "edits", "look": "report.look", "remove": "edits", "resize": "edits", "swap": "edits", "method": "registry", "methods": "registry",
    "part": "registry", "parts": "registry",
    "spec": "specs", "system": "registry", "systems": "registry",
    "Checkpoint": "interop.checkpoint", "load": "interop.checkpoint",
    "BadInput": "errors", "DoesNotFit": "errors", "EveryformerError": "errors", "UnknownName": "errors",
}  # fmt: skip
_ROOMS = (
    "backbones", "compression", "contracts", "embeddings", "feedforward", "generation", "heads", "interop", "interpret", "masks", "mixers",
    "models", "norms", "objectives", "positions", "reduction", "scores",
)  # fmt: skip
__all__ = [
    "BadInput", "Cache", "Checkpoint", "Context", "Design", "DoesNotFit", "EveryformerError", "Spec", "Tokens", "UnknownName",
    "backbones", "compression", "contracts", "create", "design", "embeddings", "feedforward", "generation", "heads", "insert",
    "interop", "interpret", "keep", "load", "look", "masks", "method", "methods", "mixers", "models", "norms", "objectives", "part",
    "parts",
    "positions", "reduction", "remove", "resize", "scores", "spec", "swap", "system", "systems",
]  # fmt: skip


def design(name: str, size: str | None = None, **options: Any) -> Design:
    """The design of a published system: `ef.design("vit", size="small", image=32, patch=4)`."""
    from dataclasses import replace

    from everyformer.registry import find_system

    return replace(find_system(name).design(size, **options), name=name)


def create(name: str, size: str | None = None, *, seed: int | None = None, **options: Any) -> Any:
    """A published system with fresh weights, a plain nn.Module: `ef.create("vit", size="tiny", classes=10)`."""
    return design(name, size, **options).build(seed=seed)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"everyformer.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"everyformer.{name}")
    raise AttributeError(f"module 'everyformer' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
