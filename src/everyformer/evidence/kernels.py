"""Evidence for encoders without softmax attention, on the topics of news."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.costs import processor_seconds
from everyformer.data.tasks.texts import TextClassification
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import logistic_regression, scored
from everyformer.mixers import Attention, Linformer
from everyformer.recipe import load_recipe
from everyformer.tokens import Tokens

_SHORT = ("training.epochs=3", "data.length=64", "training.threads=1")
_OPTIONS = {"quantizable-transformers": ("design.alpha=0.8",)}
"""Above 1 the even weights that a small model begins with are all clipped to 0, and none has a gradient."""


def overrides(system: str) -> tuple[str, ...]:
    """Of the recipe of AG News for a system, at BERT-tiny's width and depth."""
    if system in ("albert", "bert"):
        return f"design.system={system}", "design.size=tiny", *_SHORT
    return (
        f"design.system={system}",
        "design.size=nano",
        "design.depth=2",
        "design.length=64",
        *_SHORT,
        *_OPTIONS.get(system, ()),
    )


@cache
def news(system: str, *more: str) -> dict[str, Any]:
    """Accuracy on AG News and seconds of training."""
    result = scored("ag_news", *overrides(system), *more)
    return {"accuracy": result["metrics"]["accuracy"], "seconds": result["training_seconds"]}


@cache
def letters() -> float:
    """Accuracy of logistic regression on how often each letter stands in a text."""
    task = TextClassification.open(**load_recipe("ag_news").data)
    counts, labels = {}, {}
    for split in ("train", "valid", "test"):
        rows = [
            np.bincount(np.frombuffer(text.lower().encode(), np.uint8), minlength=256) for text in task.texts[split]
        ]
        counts[split], labels[split] = np.stack(rows).astype(np.float64), np.array(task.parts[split][1])
    return logistic_regression(counts, labels)


def _learns(system: str) -> Callable[[], Finding]:
    def run() -> Finding:
        ours, baseline = news(system)["accuracy"], letters()
        held = ours > baseline
        return Finding(
            verdict(held), f"{ours:.4f} against {baseline:.4f} after 3 epochs", {system: ours, "letters": baseline}
        )

    return run


for _name in (
    "cosformer", "fnet", "kernelized-transformer", "linformer", "ponet", "quantizable-transformers", "self-transformer",
):  # fmt: skip
    evidence(_name, kind="learns", claim="Accuracy on AG News is above logistic regression on counts of letters.")(
        _learns(_name)
    )


@evidence("fnet", kind="claim", claim="It reaches at least 92 % of BERT's accuracy and trains faster (abstract).")
def fnet_accuracy() -> Finding:
    """AG News, BERT-tiny's width and depth, three epochs."""
    ours, theirs = news("fnet"), news("bert")
    share, faster = ours["accuracy"] / theirs["accuracy"], theirs["seconds"] / ours["seconds"]
    held = share >= 0.92 and faster > 1
    finding = f"{share:.1%} of BERT's accuracy ({ours['accuracy']:.4f}, {theirs['accuracy']:.4f}), trained {faster:.2f} times as fast"
    return Finding(verdict(held), finding, {"fnet": ours, "bert": theirs})


@evidence("cosformer", kind="claim", claim="Reweighting by the cosine of the distance is better than none (table 7).")
def cosformer_reweighting() -> Finding:
    """AG News, cosFormer's features and plain relu, one seed."""
    plain = "design.edits=[{swap: backbone.blocks.*.mixer.features, with: {mixers.ReluFeatures: {}}}]"
    figures = {"cosine": news("cosformer")["accuracy"], "none": news("cosformer", plain)["accuracy"]}
    held = figures["cosine"] > figures["none"]
    return Finding(verdict(held), f"{figures['cosine']:.4f} with, {figures['none']:.4f} without", figures)


@evidence(
    "linformer", kind="claim", claim="Its time grows linearly with the length, attention's with the square (table 1)."
)
def linformer_time() -> Finding:
    """One forward pass at 1,024 and at 8,192 tokens of width 64."""

    def grown(mixer: Mixer) -> float:
        seconds = []
        with torch.no_grad():
            for count in (1024, 8192):
                tokens = Tokens(torch.randn(1, count, 64, generator=torch.Generator().manual_seed(0)))
                seconds += processor_seconds(partial(mixer, tokens, Context()))
        return math.log(seconds[1] / seconds[0]) / math.log(8)

    figures = {"linformer": grown(Linformer(64, heads=4, length=8192)), "attention": grown(Attention(64, heads=4))}
    held = figures["linformer"] < 1.25 and figures["attention"] > 1.6
    finding = (
        f"the time grows as the length to the power {figures['linformer']:.2f}; attention's {figures['attention']:.2f}"
    )
    return Finding(verdict(held), finding, figures)
