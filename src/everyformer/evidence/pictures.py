"""Evidence for systems that classify pictures, on scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Any

from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import arrays, logistic_regression, over_seeds, scored
from everyformer.recipe import load_recipe

_VIT = ("design.system=vit", "design.patch=2")
_SEEDS = 3
LONGER = ("training.epochs=120",)
"""Three times the recipe's: what a ViT needs to be above logistic regression on the validation part."""


def against_logistic_regression(*overrides: str, seeds: int = _SEEDS, design: dict[str, Any] | None = None) -> Finding:
    """The digits recipe, with another design where one is given, and logistic regression on the same pixels."""
    ours = over_seeds("digits", *overrides, seeds=seeds, design=design)
    baseline = logistic_regression(*arrays(find_task("image-classification").open(**load_recipe("digits").data)))
    held = ours["mean"] > baseline
    finding = f"{ours['mean']:.4f} ({seeds} seeds, {ours['parameters']:,} parameters) against {baseline:.4f}"
    return Finding(verdict(held), finding, {"ours": ours, "logistic_regression": baseline})


@evidence("vit", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def vit_learns() -> Finding:
    """Three seeds of the digits recipe, for three times as long."""
    return against_logistic_regression(*_VIT, *LONGER)


@evidence("cct", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def cct_learns() -> Finding:
    """Three seeds of the digits recipe."""
    return against_logistic_regression()


@evidence("compact-vit", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def compact_vit_learns() -> Finding:
    """Three seeds of the digits recipe."""
    return against_logistic_regression("design.system=compact-vit", "design.patch=2")


@evidence("vit-lite", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def vit_lite_learns() -> Finding:
    """Three seeds of the digits recipe."""
    return against_logistic_regression("design.system=vit-lite", "design.patch=2")


@evidence(
    "vit",
    kind="claim",
    claim="With little data a ViT is behind a design with convolutions, and more data closes the gap (section 4.3).",
)
def vit_needs_data() -> Finding:
    """ViT and CCT of equal depth and width on 8 % and on 70 % of the digits, the same number of steps."""
    gaps = {}
    figures = {}
    for share in (0.08, 0.7):
        data = f"data.fractions=[{share},{round(0.8 - share, 2)},0.2]"
        same = (data, "training.epochs=null", "training.steps=780", "training.evaluate_every=780")
        vit = scored("digits", *_VIT, *same)["metrics"]["accuracy"]
        cct = scored("digits", *same)["metrics"]["accuracy"]
        gaps[share] = cct - vit
        figures[f"{share:.0%} of the samples"] = {"vit": vit, "cct": cct}
    held = gaps[0.08] > max(gaps[0.7], 0)
    return Finding(
        verdict(held), f"CCT is ahead by {gaps[0.08]:.3f} with 8 % and by {gaps[0.7]:.3f} with 70 %", figures
    )


@evidence(
    "cct",
    kind="claim",
    claim="On small data CCT is above CVT (pooling alone), and CVT above ViT-Lite (a class token) (table 2).",
)
def cct_order() -> Finding:
    """Equal depth, width and budget on digits, three seeds each."""
    designs = {
        "cct": (),
        "compact-vit": ("design.system=compact-vit", "design.patch=2"),
        "vit-lite": ("design.system=vit-lite", "design.patch=2"),
    }
    figures = {name: over_seeds("digits", *options, seeds=_SEEDS) for name, options in designs.items()}
    means = [figures[name]["mean"] for name in designs]
    held = means[0] > means[1] > means[2]
    return Finding(verdict(held), ", ".join(f"{name} {m:.4f}" for name, m in zip(designs, means, strict=True)), figures)


@evidence(
    "cct",
    kind="claim",
    claim="CIFAR-10 from scratch on two cores is past 67.96 % (a course ViT after 90 epochs) in under ten minutes.",
    long=True,
)
def cct_cifar() -> Finding:
    """The cifar10 recipe."""
    result = scored("cifar10")
    accuracy, seconds = result["metrics"]["accuracy"], result["training_seconds"]
    held = accuracy > 0.6796 and seconds < 600
    finding = f"{accuracy:.4f} after {seconds:.0f} s, {result['parameters']:,} parameters, {result['threads']} threads"
    return Finding(
        verdict(held), finding, {"accuracy": accuracy, "seconds": seconds, "parameters": result["parameters"]}
    )
