"""The design of a recipe: a system, its options filled from the data's facts, and edits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from everyformer.designs import Design
from everyformer.errors import EveryformerError, UnknownName
from everyformer.registry import find_system, systems
from everyformer.specs import from_plain

_EDITS = ("swap", "set", "insert", "remove")


def design_for(chosen: Mapping[str, Any], facts: Mapping[str, Any]) -> Design:
    """The design that a recipe's `design` section writes, for data of which `facts` are known."""
    import everyformer

    options = dict(chosen)
    name = options.pop("system", None)
    size = options.pop("size", None)
    edits = options.pop("edits", [])
    if name is None:
        raise EveryformerError(f"the recipe names no system; give design.system, one of: {', '.join(systems())}")
    known = inspect.signature(find_system(name).make).parameters
    filled = {fact: value for fact, value in facts.items() if fact in known}
    return edited(everyformer.design(name, size, **{**filled, **options}), edits)


def edited(design: Design, edits: list[Mapping[str, Any]]) -> Design:
    """A design after edits: {swap: path, with: part}, {set: path, value: v}, {insert: path, with: part}, {remove: path}.

    A part is written {room.Part: {option: value}}, as in a design's YAML.
    """
    for edit in edits:
        design = _edited(design, edit)
    return design


def _edited(design: Design, edit: Mapping[str, Any]) -> Design:
    kinds = [kind for kind in _EDITS if kind in edit] if isinstance(edit, Mapping) else []
    if len(kinds) != 1:
        raise EveryformerError(f"design.edits has {edit!r}; each edit has one of the keys {', '.join(_EDITS)}")
    (kind,) = kinds
    path = edit[kind]
    needed = {"swap": "with", "insert": "with", "set": "value"}.get(kind)
    for key in edit:
        if key not in (kind, needed):
            raise UnknownName(f"key of the edit '{kind}'", key, [k for k in (kind, needed) if k])
    if needed is not None and needed not in edit:
        raise EveryformerError(f"the edit {dict(edit)!r} needs the key '{needed}'")
    if kind == "remove":
        return design.remove(path)
    if kind == "set":
        return design.set(path, from_plain(edit["value"]))
    part = from_plain(edit["with"])
    return design.swap(path, part) if kind == "swap" else design.insert(path, part)
