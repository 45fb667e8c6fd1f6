"""The page of a comparison: one file with table, plots and examples in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from everyformer.recipe import Recipe
from everyformer.report.page import rendered, written


def columns(results: list[dict[str, Any]]) -> list[str]:
    """The titles of what `cells` gives."""
    return ["design", *results[0]["figures"], "parameters", "FLOPs", "training", "latency", "throughput", "memory"]


def ranked(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best first."""
    sign = -1 if results[0]["better"] == "max" else 1
    return sorted(results, key=lambda r: sign * r["metrics"][r["figures"][0]])


def cells(result: dict[str, Any]) -> list[str]:
    """A result as a line of the table, in the units a person reads."""
    return [
        result["name"],
        *(f"{result['metrics'][figure]:.4f}" for figure in result["figures"]),
        short(result["parameters"]),
        short(result["flops"]),
        f"{result['training_seconds']:.0f} s",
        f"{result['latency_ms']:.2f} ms",
        f"{short(result['throughput'])}/s",
        f"{result['peak_memory'] / 2**20:.0f} MiB",
    ]


def scored_on(results: list[dict[str, Any]]) -> str:
    """What all were scored on: how many samples, where the same text is not cut differently, and their hash."""
    counts = {result["samples"] for result in results}
    samples = f"{counts.pop()} test samples" if len(counts) == 1 else "test part"
    return f"{samples} ({results[0]['hash'][:12]})"


def short(count: float) -> str:
    """1,234,567 as '1.23 M'."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}".strip()
        count /= 1000
    return f"{count:.3g} P"


def write_report(recipe: Recipe, results: list[dict[str, Any]], page: Path) -> Path:
    """Write the page of a comparison and return its path."""
    from markupsafe import Markup

    best_first = ranked(results)
    html = rendered(
        "comparison.html",
        recipe=recipe,
        columns=columns(results),
        rows=[(result, cells(result)) for result in best_first],
        plots=[Markup(plot) for plot in plots(best_first)],
        first=results[0],
        trained_on=sorted({result["trained_on"] for result in results}),
        scored_on=scored_on(results),
        explained=recipe.explain(),
    )  # fmt: skip
    return written(page, html)


def plots(results: list[dict[str, Any]]) -> list[str]:
    """Quality against FLOPs, parameters, latency and, where it differs, the data, and the learning curves, all SVG."""
    metric = results[0]["figures"][0]
    drawn = [
        _scatter(results, key, label, metric)
        for key, label in (
            ("flops", "FLOPs of one sample"),
            ("parameters", "parameters"),
            ("latency_ms", "latency, ms"),
        )
    ]
    drawn.append(_regimes(results, metric))
    drawn.append(_curves(results, "loss", "training loss"))
    drawn.append(_curves(results, metric, f"{metric} on the validation part"))
    return [svg for svg in drawn if svg]


def _axes(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _scatter(results: list[dict[str, Any]], key: str, label: str, metric: str) -> str:
    from matplotlib.ticker import EngFormatter

    figure, axes = _axes(f"{metric} against {label}")
    for result in results:
        x, y = result[key], result["metrics"][metric]
        axes.scatter(x, y, s=40)
        axes.annotate(result["name"], (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    if max(r[key] for r in results) > 4 * min(r[key] for r in results):
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=5)
    if key != "latency_ms":
        axes.xaxis.set_major_formatter(EngFormatter())
    axes.margins(0.25)
    axes.set_xlabel(label, fontsize=8)
    axes.set_ylabel(metric, fontsize=8)
    return _svg(figure)


def _regimes(results: list[dict[str, Any]], metric: str) -> str:
    """Quality as the training data grow, a line a system."""
    if len({result["trained_on"] for result in results}) < 2:
        return ""
    figure, axes = _axes(f"{metric} against training samples")
    for system in sorted({result["system"] for result in results}):
        points = sorted((r["trained_on"], r["metrics"][metric]) for r in results if r["system"] == system)
        axes.plot(*zip(*points, strict=True), label=system, linewidth=1.4, marker="o")
    axes.set_xscale("log")
    axes.set_xlabel("training samples", fontsize=8)
    axes.set_ylabel(metric, fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def _curves(results: list[dict[str, Any]], key: str, title: str) -> str:
    figure, axes = _axes(title)
    drawn = 0
    for result in results:
        points = [(p["seconds"], p[key]) for p in result["curve"] if p.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=result["name"], linewidth=1.4)
            drawn += 1
    if not drawn:
        return ""
    axes.set_xlabel("seconds of training", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    return _svg(figure)
