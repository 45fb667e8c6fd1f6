"""Evidence for designs that say what things a picture shows, on rendered rooms."""

from __future__ import annotations

from functools import cache
from typing import Any

from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import scored
from everyformer.recipe import load_recipe

_STEPS = 4000


@cache
def _result(*overrides: str, **changes: Any) -> dict[str, Any]:
    """The recipe of things, its design changed, after as many steps."""
    design = {**load_recipe("things").design, **changes}
    budget = (f"training.steps={_STEPS}", "training.seconds=null")
    return scored("things", *budget, *overrides, design=design)


@evidence("detr", kind="learns", claim="4,000 steps on rendered rooms are far above the mean box of each class.")
def detr_learns() -> Finding:
    """The recipe of things."""
    result = _result()
    ours, baseline = result["metrics"], result["baseline"]["ap"]
    held = ours["ap"] > 5 * baseline
    finding = f"average precision {ours['ap']:.4f} (at 0.5: {ours['ap50']:.4f}) against {baseline:.4f}"
    return Finding(verdict(held), finding, {**ours, "mean boxes": baseline, "parameters": result["parameters"]})


@evidence("detr", kind="claim", claim="Without an encoder the average precision is lower (table 2).")
def detr_encoder() -> Finding:
    """The same with no block of the encoder, whose share the decoder gets instead."""
    whole, none = _result()["metrics"]["ap"], _result(depth=0, decoder_depth=3)["metrics"]["ap"]
    held = whole > none
    return Finding(verdict(held), f"average precision {whole:.4f} against {none:.4f}", {"encoder": whole, "none": none})


@evidence("detr", kind="claim", claim="Generalised IoU in the loss raises the average precision (table 4).")
def detr_overlap() -> Finding:
    """The sum of differences alone, or with what boxes have in common."""
    both, alone = _result()["metrics"]["ap"], _result("objective.giou=0.0")["metrics"]["ap"]
    held = both > alone
    return Finding(
        verdict(held), f"average precision {both:.4f} against {alone:.4f}", {"both": both, "differences": alone}
    )
