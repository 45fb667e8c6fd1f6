"""Evidence for Informer, on the temperature of transformers (ETTh1)."""

from __future__ import annotations

from functools import cache

from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.long_text import growth
from everyformer.evidence.runs import scored
from everyformer.mixers import Attention, ProbSparse
from everyformer.recipe import load_recipe

_SHORT = ("data.horizon=24", "training.epochs=2")


@cache
def error(system: str) -> float:
    """Mean squared error of a small size on ETTh1, 96 to 24, after two epochs."""
    return scored("ett", *_SHORT, design={"system": system, "size": "tiny"})["metrics"]["mse"]


@evidence(
    "informer",
    kind="learns",
    claim="On ETTh1, 96 to 24, its MSE is below repeating the last value, all steps in one pass.",
)
def informer_learns() -> Finding:
    """The ett recipe, two epochs; beside it iTransformer."""
    task = find_task("forecasting").open(**load_recipe("ett", _SHORT).data)
    figures = {name: error(name) for name in ("informer", "itransformer")}
    repeated = task.baseline("test")
    assert repeated is not None
    figures["repeat"] = repeated["mse"]
    held = figures["informer"] < figures["repeat"]
    finding = f"{figures['informer']:.4f} against {figures['repeat']:.4f} (iTransformer {figures['itransformer']:.4f})"
    return Finding(verdict(held), finding, figures)


@evidence("informer", kind="claim", claim="Its attention takes time in N log N (section 3.1).")
def informer_time() -> Finding:
    """A layer of width 64 from 1,024 to 4,096 tokens; N log N grows there as N^1.13."""
    counts = (1024, 4096)
    figures = {
        "probsparse": growth(ProbSparse(64, heads=4), counts=counts),
        "attention": growth(Attention(64, heads=4), counts=counts),
    }
    holds = figures["probsparse"] < 1.3 < figures["attention"]
    finding = f"time grows as N^{figures['probsparse']:.2f}, attention's as N^{figures['attention']:.2f}"
    return Finding(verdict(holds), finding, figures)
