"""A published design as another one with parts exchanged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from everyformer.designs import Design

Make = Callable[..., Design]


def upon(base: Make, /, *, fixed: Mapping[str, Any] | None = None, **defaults: Any) -> Callable[[Make], Make]:
    """Function decorator: the function changes a design of `base`, and takes the options of both by name.

    `defaults` stand in for `base`'s own; what is `fixed` cannot be chosen. An option that the function names too goes to
    both, with the function's default.
    """
    fixed = fixed or {}
    theirs = inspect.signature(base).parameters
    if unknown := {*fixed, *defaults} - {*theirs}:
        raise TypeError(f"{base.__name__} has no option {', '.join(sorted(unknown))}")
    offered = {
        name: each.replace(default=defaults.get(name, each.default))
        for name, each in theirs.items()
        if name not in fixed
    }

    def join(change: Make) -> Make:
        _, *own = inspect.signature(change).parameters.values()
        joined = {**offered, **{each.name: each for each in own}}
        signature = inspect.Signature([*joined.values()], return_annotation="Design")

        def make(**options: Any) -> Design:
            bound = signature.bind(**options)
            bound.apply_defaults()
            given = bound.arguments
            design = base(**{name: given[name] for name in offered}, **fixed)
            return change(design, **{each.name: given[each.name] for each in own})

        make.__name__, make.__doc__, make.__module__ = change.__name__, change.__doc__, change.__module__
        make.__signature__ = signature  # type: ignore[attr-defined]
        make.__annotations__ = {each.name: each.annotation for each in joined.values()}
        return make

    return join
