"""The page of a system's evidence: what was claimed, what was seen, and every figure behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everyformer.registry import find_published
from everyformer.report.page import rendered, written


def write_findings(found: dict[str, Any], page: Path) -> Path:
    """Write what `evidence.gather` gave as a page of one file, and return its path."""
    results = [(each, [*lines(each["figures"])]) for each in found["results"]]
    return written(page, rendered("findings.html", entry=find_published(found["system"]), results=results))


def lines(figures: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Each figure with the names that lead to it; those of a list stand in one line."""
    if isinstance(figures, dict):
        for key, each in figures.items():
            yield from lines(each, f"{name}, {key}" if name else str(key))
    elif isinstance(figures, list) and any(isinstance(each, (dict, list)) for each in figures):
        for place, each in enumerate(figures):
            yield from lines(each, f"{name}, {place}")
    else:
        yield name, ", ".join(map(_said, figures)) if isinstance(figures, list) else _said(figures)


def _said(figure: Any) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else f"{figure:,}" if type(figure) is int else str(figure)
