"""Errors that a user can cause, each with what was given, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EveryformerError(Exception):
    """Something a user gave that cannot be used; commands print its message and exit with status 2."""


class UnknownName(EveryformerError, LookupError):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"unknown {kind} '{name}'; {nearest(name, self.known)}")


class DoesNotFit(EveryformerError, TypeError):
    """A part that cannot stand where a design puts it; `path` names the place from the root of the design."""

    def __init__(self, message: str, path: str = "") -> None:
        self.message, self.path = message, path
        super().__init__(message)

    def inside(self, name: str) -> DoesNotFit:
        """The same error seen from the part that holds the place `name`."""
        return type(self)(self.message, f"{name}.{self.path}" if self.path else name)

    def __str__(self) -> str:
        return f"at '{self.path}': {self.message}" if self.path else self.message


class BadInput(EveryformerError, ValueError):
    """A value (a token id, a label, an image, a length) outside what the model or recipe takes."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the names closest to `name`, or all of `known` where none is close."""
    known = list(dict.fromkeys(known))
    close = get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.6)
    by_lower = {k.lower(): k for k in known}
    if close:
        return "did you mean " + " or ".join(f"'{by_lower[c]}'" for c in close) + "?"
    shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
    return f"known: {shown}" if known else "none is known"


class RunFailed(EveryformerError, RuntimeError):
    """A run that could not go on (a full disk, a loss that is not a number); commands exit with status 1."""
