"""The tables of systems, parts and checkpoints in `docs/`, made from what is registered: `python -m everyformer.report.tables docs`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from everyformer.costs import on_meta, parameters
from everyformer.evidence import kept
from everyformer.interop.family import families
from everyformer.interop.timm import timm_families
from everyformer.registry import ROOMS, Published, methods, parts, systems
from everyformer.specs import signature

_NOTE = "<!-- Made by `python -m everyformer.report.tables docs`; change the registry, not this file. -->"


def systems_page() -> str:
    """Every system with its paper, sizes with parameters, and evidence; then the methods."""
    rows = ["| system | paper | idea | sizes (parameters) | evidence |", "|---|---|---|---|---|"]
    for name, system in systems().items():
        sizes = "; ".join(
            f"{size} ({parameters(on_meta(system.design(size))) / 1e6:.1f} M)" for size in system.sizes or [None]
        )
        rows.append(f"| `{name}` | {_paper(system)} | {system.idea} | {sizes} | {_verdicts(name)} |")
    applied = methods()
    if applied:
        rows += ["", "# Methods", "", "Applied to a trained model.", ""]
        rows += ["| method | paper | idea | call | evidence |", "|---|---|---|---|---|"]
        rows += [f"| `{n}` | {_paper(m)} | {m.idea} | `{m.call}` | {_verdicts(n)} |" for n, m in applied.items()]
    return "\n".join(["# Systems", "", _NOTE, "", *rows, ""])


def _paper(found: Published) -> str:
    link = f"arXiv {found.arxiv}" if found.arxiv else ""
    return ", ".join(x for x in (f"{found.authors} {found.year}", found.title, link) if x)


def _verdicts(name: str) -> str:
    found = (kept(name) or {}).get("results", [])
    return "; ".join(f"{each['claim']} **{each['verdict']}**: {each['finding']}" for each in found)


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


def families_page() -> str:
    """Every kind of checkpoint that opens and is written back, with the classes that it may be of."""
    lines = ["# Checkpoints that open, and go back", "", _NOTE, "", "## Hugging Face", ""]
    lines += ["| model_type | system | classes |", "|---|---|---|"]
    for name in sorted({family.name for family in families()}):
        several = [family for family in families() if family.name == name]
        tops = ", ".join(dict.fromkeys(f"`{top}`" for family in several for top in family.tops))
        systems = ", ".join(dict.fromkeys(f"`{family.system}`" for family in several))
        lines.append(f"| `{name}` | {systems} | {tops} |")
    lines += ["", "## timm", "", "| class | system |", "|---|---|"]
    for name, found in sorted(timm_families().items()):
        lines.append(f"| `{name}` | {', '.join(f'`{each.system}`' for each in found)} |")
    return "\n".join([*lines, ""])


def main(folder: Path) -> None:
    """Write the pages."""
    (folder / "families.md").write_text(families_page())
    (folder / "systems.md").write_text(systems_page())
    (folder / "parts.md").write_text(parts_page())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
