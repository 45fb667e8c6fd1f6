"""`docs/performance.md` from the JSON that the benchmarks keep: `python -m benchmarks.page docs/performance.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TITLES = {
    "encoder": "An encoder: equal lengths and real sentences",
    "training": "A training step, and training on Multi30k",
    "generation": "Generation",
    "vision": "Vision backbones beside timm's and Hugging Face's own",
    "mixers": "Every mixer, as the input grows",
    "caches": "Smaller caches",
    "compression": "Smaller models, method by method",
    "reduction": "Fewer tokens: quality against time",
    "surgery": "Parts exchanged in checkpoints",
    "precision": "Number formats",
    "feedforward": "Feedforwards, norms and depth beside the plain model",
    "abstraction": "What parts cost beside one plain module",
    "imports": "What importing costs",
}
NOTE = "<!-- Made by `python -m benchmarks.page docs/performance.md` from `benchmarks/*.json`; run a benchmark, not an editor. -->"


def page() -> str:
    """Every kept benchmark as a table, with its command, machine and versions."""
    lines = ["# Performance", "", NOTE, ""]
    for name, title in TITLES.items():
        path = HERE / f"{name}.json"
        if path.is_file():
            lines += [f"## {title}", "", *section(json.loads(path.read_text())), ""]
    compared = HERE / "comparisons.json"
    for name, report in json.loads(compared.read_text()).items() if compared.is_file() else ():
        lines += [f"## Compared: {name}", "", *section(report), ""]
    return "\n".join(lines)


def section(report: Mapping[str, Any]) -> list[str]:
    """One benchmark."""
    told = [f"{key} {report[key]}" for key in ("threads", "load", "default", "repeats") if key in report]
    versions = report.get("versions", {name: report[name] for name in ("everyformer", "torch") if name in report})
    told += [f"{name} {version}" for name, version in versions.items()]
    lines = [f"`{report['command']}`: {'; '.join(told)}."] if "command" in report else [f"{'; '.join(told)}."]
    if "mixers" in report:
        return [*lines, "", *growth(report)]
    rows = report.get("lines") or [
        {"what": what, "seconds": seconds, "ratio": report["ratio"][what]}
        for what, seconds in report["seconds"].items()
    ]
    lines += ["", *table([flat(row) for row in rows])]
    if "multi30k" in report:
        lines += [
            "",
            "Multi30k, real target tokens a second of processor time:",
            "",
            *table([flat(report["multi30k"])]),
        ]
    if report.get("headlines"):
        lines += ["", "The papers' headlines, and the best within their points:", "", *table(report["headlines"])]
    if "bars" in report:
        lines += [
            "",
            "Wanted, times as fast: " + ", ".join(f"{what} {bar}" for what, bar in report["bars"].items()) + ".",
        ]
    return lines


def growth(report: Mapping[str, Any]) -> list[str]:
    """How time and memory of each mixer grow with the number of tokens, and how fast it works token by token."""
    lengths, contexts = report["lengths"], report["contexts"]
    rows = []
    for name, each in report["mixers"].items():
        reached, powers = len(each["both_ms"]), each["exponents"]
        row = {
            "mixer": name,
            "longest": lengths[reached - 1],
            "forward ms": each["forward_ms"][-1],
            "with backward ms": each["both_ms"][-1],
            "peak MiB": each["peak_mib"][-1],
            "time grows as": f"N^{powers['both_ms']}" if powers else None,
            "memory grows as": f"N^{powers['kept_mib']}" if powers else None,
            "faster than attention from": each["faster_from"],
        }
        speeds = each.get("generating", {}).get("tokens_per_second", [])
        row |= {f"tokens a second after {n}": speed for n, speed in zip(contexts, speeds)}
        rows.append(row)
    told = (
        f"Width {report['width']}, {report['heads']} heads, one sequence of {lengths[0]} to {lengths[-1]} tokens; times are those of "
        "the longest that a mixer was given: one that asks for too much time or memory ends earlier."
    )
    return [told, "", *table(rows)]


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries inside a row as columns of their own."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{inner} ({name})": each for inner, each in value.items()}
        else:
            found[name.replace("_", " ")] = value
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table; a row without a column is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell(row.get(name)) for name in columns) + " |" for row in rows]


def cell(value: Any) -> str:
    """A number short, nothing for nothing."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/performance.md").write_text(page())
