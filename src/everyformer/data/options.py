"""The `data` section of a recipe, checked before any data is read."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from everyformer.errors import EveryformerError, nearest

T = TypeVar("T")


def read_options(kind: type[T], given: Mapping[str, Any], section: str = "data") -> T:
    """An options dataclass from plain values; unknown keys are refused with the nearest known, wrong types too."""
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for key, value in given.items():
        if key not in known:
            raise EveryformerError(f"unknown key '{section}.{key}'; {nearest(key, known)}")
        if not _accepts(hints[key], value):
            raise EveryformerError(f"{section}.{key} takes {_shown(hints[key])}; given {value!r}")
    return kind(**given)


def _accepts(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(each, value) for each in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(_accepts(typing.get_args(hint)[0], v) for v in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _shown(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_shown(each) for each in typing.get_args(hint))
    if origin is typing.Literal:
        return " or ".join(f"'{each}'" for each in typing.get_args(hint))
    if origin is list:
        return f"a list of {_shown(typing.get_args(hint)[0])}"
    return "nothing" if hint is type(None) else str(hint.__name__)
