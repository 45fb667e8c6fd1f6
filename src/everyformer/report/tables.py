"""The tables of systems and parts in `docs/`, made from the registry: `python -m everyformer.report.tables docs`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from everyformer.costs import on_meta, parameters
from everyformer.evidence import kept
from everyformer.registry import ROOMS, parts, systems
from everyformer.specs import signature

_NOTE = "<!-- Made by `python -m everyformer.report.tables docs`; change the registry, not this file. -->"


def systems_page() -> str:
    """Every system with its paper, sizes with parameters, and evidence."""
    rows = ["| system | paper | idea | sizes (parameters) | evidence |", "|---|---|---|---|---|"]
    for name, system in systems().items():
        link = f"arXiv {system.arxiv}" if system.arxiv else ""
        paper = ", ".join(x for x in (f"{system.authors} {system.year}", system.title, link) if x)
        sizes = "; ".join(
            f"{size} ({parameters(on_meta(system.design(size))) / 1e6:.1f} M)" for size in system.sizes or [None]
        )
        found = (kept(name) or {}).get("results", [])
        verdicts = "; ".join(f"{each['claim']} **{each['verdict']}**: {each['finding']}" for each in found)
        rows.append(f"| `{name}` | {paper} | {system.idea} | {sizes} | {verdicts} |")
    return "\n".join(["# Systems", "", _NOTE, "", *rows, ""])


def parts_page() -> str:
    """Every part by room, with its options and their defaults."""
    lines = ["# Parts", "", _NOTE, ""]
    for room in ROOMS:
        found = parts(room)
        if not found:
            continue
        lines += [f"## {room}", "", "| part | what | options |", "|---|---|---|"]
        for name, cls in found.items():
            what = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            options = ", ".join(f"`{option}`" for option in signature(cls))
            lines.append(f"| `{name}` | {what} | {options} |")
        lines.append("")
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Write both pages."""
    (folder / "systems.md").write_text(systems_page())
    (folder / "parts.md").write_text(parts_page())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
