"""Evidence for designs that say how far away each pixel is, on rendered rooms."""

from __future__ import annotations

from functools import cache
from typing import Any

from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import scored
from everyformer.recipe import load_recipe

_DPT: dict[str, Any] = {
    "system": "dpt", "image": 64, "patch": 8, "width": 64, "depth": 4, "heads": 4,
    "hidden": [16, 32, 48, 64], "factors": [2, 1, 0.5, 0.25], "fused": 24,
}  # fmt: skip
"""Half the authors' factors for patches half as large, so that the answer is as fine as the picture, not twice."""
_SECONDS = 60


@cache
def _dpt(*levels: int) -> dict[str, Any]:
    """The recipe of rooms with a small plain transformer of which these levels are read; as many steps on any machine."""
    return scored("rooms", "training.seconds=null", design={**_DPT, "levels": list(levels)})


@cache
def _glpn(*edits: tuple[str, str]) -> dict[str, Any]:
    """The recipe of rooms, some parts of its design exchanged: (path, head)."""
    made = [{"swap": path, "with": {part: {}}} for path, part in edits]
    design = {**load_recipe("rooms").design, "edits": made}
    return scored("rooms", f"training.seconds={_SECONDS}", design=design)


def _against_the_mean(result: dict[str, Any]) -> Finding:
    ours, baseline = result["metrics"], result["baseline"]["abs_rel"]
    held = ours["abs_rel"] < baseline
    finding = (
        f"relative error {ours['abs_rel']:.4f} (delta1 {ours['delta1']:.3f}) against {baseline:.4f} of the mean map"
    )
    return Finding(verdict(held), finding, {**ours, "mean map": baseline, "parameters": result["parameters"]})


@evidence("glpdepth", kind="learns", claim="A minute on rendered rooms is better than their mean map.")
def glpdepth_learns() -> Finding:
    """The recipe of rooms."""
    return _against_the_mean(_glpn())


@evidence("dpt", kind="learns", claim="600 steps on rendered rooms are better than their mean map.")
def dpt_learns() -> Finding:
    """The recipe of rooms with a small plain transformer."""
    return _against_the_mean(_dpt(0, 1, 2, 3))


@evidence("dpt", kind="claim", claim="Several levels of the transformer are above its last one alone (table 6).")
def dpt_levels() -> Finding:
    """The same head, with the last block in the place of all four."""
    several, last = (_dpt(*levels)["metrics"]["abs_rel"] for levels in ((0, 1, 2, 3), (3, 3, 3, 3)))
    held = several < last
    return Finding(
        verdict(held), f"relative error {several:.4f} against {last:.4f}", {"several": several, "last": last}
    )
