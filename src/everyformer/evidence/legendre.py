"""Evidence for the Legendre memory and its spiking form, on spoken digits."""

from __future__ import annotations

from functools import cache
from typing import Any

from everyformer.costs import flops, on_meta
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.others import spectrograms
from everyformer.evidence.runs import scored
from everyformer.registry import find_system


@cache
def spoken(system: str, epochs: int = 12) -> dict[str, Any]:
    """Accuracy on spoken digits after some epochs, and what the model costs."""
    result = scored(
        "spoken_digits", f"training.epochs={epochs}", "training.threads=1", design={"system": system, "size": "digits"}
    )
    model = on_meta(find_system(system).design("digits"))
    return {
        "accuracy": result["metrics"]["accuracy"], "parameters": result["parameters"],
        "flops": flops(model)[""],
    }  # fmt: skip


@evidence(
    "lmuformer", kind="learns", claim="Accuracy on spoken digits is above logistic regression on log-mel spectrograms."
)
def lmuformer_learns() -> Finding:
    """The spoken_digits recipe, 12 epochs."""
    ours, baseline = spoken("lmuformer")["accuracy"], spectrograms()
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"lmuformer": ours, "logistic_regression": baseline}
    )


@evidence(
    "lmuformer",
    kind="claim",
    claim="It is as accurate as a Transformer on spectrograms with fewer parameters and FLOPs (table 2).",
)
def lmuformer_small() -> Finding:
    """At most 2 points below AST, 12 epochs each."""
    figures = {name: spoken(name) for name in ("lmuformer", "ast")}
    ours, theirs = figures["lmuformer"], figures["ast"]
    fewer = all(ours[name] < theirs[name] for name in ("parameters", "flops"))
    holds = fewer and ours["accuracy"] >= theirs["accuracy"] - 0.02
    finding = ", ".join(
        f"{name} {each['accuracy']:.4f} with {each['parameters']:,} parameters and {each['flops'] / 1e6:.1f} MFLOPs"
        for name, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)


@evidence(
    "spiking-lmuformer",
    kind="learns",
    claim="With spikes alone its accuracy on spoken digits is above logistic regression on spectrograms.",
)
def spiking_learns() -> Finding:
    """The spoken_digits recipe, 24 epochs."""
    ours, baseline = spoken("spiking-lmuformer", epochs=24)["accuracy"], spectrograms()
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"spiking": ours, "logistic_regression": baseline}
    )


@evidence("spiking-lmuformer", kind="claim", claim="Spikes cost little accuracy: at most a point (tables 2 and 3).")
def spiking_near() -> Finding:
    """Both forms, 24 epochs each, as many as spikes take to learn."""
    figures = {name: spoken(name, epochs=24)["accuracy"] for name in ("spiking-lmuformer", "lmuformer")}
    holds = figures["spiking-lmuformer"] >= figures["lmuformer"] - 0.01
    finding = f"{figures['spiking-lmuformer']:.4f} with spikes, {figures['lmuformer']:.4f} without"
    return Finding(verdict(holds), finding, figures)
