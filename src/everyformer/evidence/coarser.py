"""Evidence for keys that are made coarser after training."""

from __future__ import annotations

from typing import Any

from everyformer.costs import flops, on_meta
from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained
from everyformer.training.designing import design_for

_SMALL: dict[str, Any] = {
    "system": "edaformer", "widths": [16, 32, 64, 96], "depths": [1, 1, 1, 1], "heads": [1, 2, 4, 4], "ratio": 3.0,
    "hidden": 64, "drop_path": 0.0,
}  # fmt: skip
_COARSER = {"pools": [16, 8, 2, 1], "decoder_pools": [8, 4, 2]}


@evidence("edaformer", kind="learns", claim="A minute on CamVid gives three times the mIoU of the commonest class.")
def edaformer_learns() -> Finding:
    """The design that the other experiment makes coarser."""
    with trained("camvid", "training.seconds=60", design=_SMALL) as run:
        miou, baseline = run.result["metrics"]["miou"], run.result["baseline"]["miou"]
    held = miou > 3 * baseline
    return Finding(
        verdict(held), f"mIoU {miou:.4f}, the commonest class {baseline:.4f}", {"miou": miou, "commonest": baseline}
    )


@evidence("edaformer", kind="claim", claim="Keys made coarser after training cost less, for little mIoU (section 3.3).")
def coarser_keys_cost_less() -> Finding:
    """After a minute on CamVid: keys coarser by 2 in the first two stages and in the decoder; the cost at 512 pixels."""
    with trained("camvid", "training.seconds=60", design=_SMALL) as run:
        task = find_task(run.recipe.task).open(**run.recipe.data)
        whole = run.result["metrics"]["miou"]
        coarse = design_for({**_SMALL, **_COARSER}, task.facts).build()
        coarse.load_state_dict(run.model.state_dict())
        less = task.evaluate(coarse.eval(), "test").metrics["miou"]
    costs = []
    for options in ({}, _COARSER):
        model = on_meta(design_for({**_SMALL, **options}, {"classes": 11, "image": 512}))
        costs.append(flops(model, model.embedding.example(1, 512))[""])
    held = whole - less < 0.03 and costs[1] < costs[0]
    finding = f"mIoU {whole:.4f}, coarser {less:.4f}; {costs[1] / costs[0]:.0%} of the FLOPs"
    return Finding(verdict(held), finding, {"whole": whole, "coarser": less, "flops": costs})
