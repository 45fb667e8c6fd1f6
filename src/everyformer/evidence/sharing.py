"""Evidence for layers that share weights, run in a loop or are summed over the depth."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.evidence.decoders import learns
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.in_context import in_context, on_vectors, regression
from everyformer.evidence.kernels import letters, news
from everyformer.evidence.runs import scored
from everyformer.evidence.words import dictionary

_SHORT = (
    "data.vocabulary=2000",
    "training.epochs=2",
    "training.average=0",
    "training.threads=1",
    "training.lr=2e-3",
    "decoding.size=1",
)

learns("algoformer")


@evidence("albert", kind="learns", claim="Accuracy on AG News is above logistic regression on counts of letters.")
def albert_learns() -> Finding:
    """Three epochs."""
    ours, baseline = news("albert")["accuracy"], letters()
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"albert": ours, "letters": baseline})


@evidence("albert", kind="claim", claim="One layer in the place of all costs at most two points of accuracy (table 4).")
def albert_shares() -> Finding:
    """AG News, four layers: one set of weights, and a set for each."""
    figures = {"shared": news("albert")["accuracy"], "apart": news("albert", "design.groups=4")["accuracy"]}
    sizes = [parameters(on_meta(ef.design("albert", "tiny", groups=groups)).backbone) for groups in (1, 4)]
    held = figures["shared"] >= figures["apart"] - 0.02
    finding = (
        f"{figures['shared']:.4f} against {figures['apart']:.4f}; layers of {sizes[0]:,} and {sizes[1]:,} parameters"
    )
    return Finding(verdict(held), finding, {**figures, "parameters": sizes})


@cache
def translated(system: str, edits: tuple[tuple[str, str, Any], ...] = (), **options: Any) -> dict[str, Any]:
    """Loss on the validation part, BLEU on the test part and size, after two epochs of Multi30k; an edit is (kind, path, value)."""
    written = [{kind: path} if kind == "remove" else {kind: path, "value": value} for kind, path, value in edits]
    design = {"system": system, "size": "tiny", "dropout": 0.2, "edits": written, **options}
    result = scored("multi30k", *_SHORT, design=design)
    return {
        "loss": result["valid"]["loss"], "bleu": result["metrics"]["bleu_tokenized"], "parameters": result["parameters"],
    }  # fmt: skip


def translates(system: str) -> Finding:
    """Greedy, against a dictionary of words that stand together."""
    ours, baseline = translated(system)["bleu"], dictionary()
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.2f} against {baseline:.2f} BLEU", {system: ours, "words": baseline})


for _system in ("gtrans", "subformer", "universal-transformer"):
    evidence(_system, kind="learns", claim="After two epochs of Multi30k it is above word-by-word translation.")(
        partial(translates, _system)
    )


def better(ours: dict[str, Any], theirs: dict[str, Any], other: str) -> Finding:
    """Whether the loss is below another's."""
    held = ours["loss"] < theirs["loss"]
    finding = (
        f"loss {ours['loss']:.4f} ({ours['bleu']:.1f} BLEU, {ours['parameters']:,} parameters), {other} "
        f"{theirs['loss']:.4f} ({theirs['bleu']:.1f} BLEU, {theirs['parameters']:,})"
    )
    return Finding(verdict(held), finding, {"ours": ours, other: theirs})


@evidence(
    "universal-transformer", kind="claim", claim="Turns of one layer are better than that layer once (section 3)."
)
def universal_turns() -> Finding:
    """Four turns against a Transformer of one layer, which has the same weights; two epochs of Multi30k."""
    return better(translated("universal-transformer"), translated("transformer", depth=1), "one layer")


@evidence(
    "subformer",
    kind="claim",
    claim="Layers shared between the first and the last are better than all shared at as many parameters (section 4.1).",
)
def subformer_sandwich() -> Finding:
    """Four layers: three sets of weights, and one with a feedforward as much wider; two epochs of Multi30k."""
    edits: list[tuple[str, str, Any]] = []
    for stack in ("encoder", "decoder"):
        edits += [("remove", f"{stack}.blocks.2", None), ("remove", f"{stack}.blocks.0", None)]
        edits += [("set", f"{stack}.blocks.0.times", 4)]
    return better(translated("subformer"), translated("subformer", tuple(edits), hidden=1545), "all shared")


@evidence(
    "gtrans", kind="claim", claim="Sums over groups of layers are better than the last layer alone (section 4.3)."
)
def gtrans_fused() -> Finding:
    """Four layers in two groups against a Transformer of four, both pre-norm; two epochs of Multi30k."""
    return better(translated("gtrans"), translated("transformer", pre_norm=True), "last layer")


@evidence(
    "algoformer",
    kind="claim",
    claim="At equal parameters it learns regression in context better than a loop with injection and a plain transformer "
    "(section 4).",
)
def algoformer_regression() -> Finding:
    """Linear maps of 3 dimensions, 10 examples; three layers, or one that loops: 5 turns each."""
    dimension, pairs = 3, 10
    body = {"vocabulary": 2, "width": 64, "heads": 4}
    kinds = {
        "algoformer": {"turns": 5},
        "plain": {"turns": 1},
        "looped": {"pre": 0, "post": 0, "loop": 3, "turns": 5, "injected": True},
    }
    figures = {}
    for name, options in kinds.items():
        model = on_vectors(ef.design("algoformer", **body, **options), dimension, pairs).build(seed=0)
        in_context(model, lambda generator: regression(64, dimension, pairs, generator), 1500)
        inputs, y = regression(1000, dimension, pairs, torch.Generator().manual_seed(1))
        with torch.no_grad():
            figures[name] = float((model(inputs)[:, -2, 0] - y[:, -1]).square().mean())
    held = figures["algoformer"] < min(figures["plain"], figures["looped"])
    finding = ", ".join(f"{name} {error:.4f}" for name, error in figures.items())
    return Finding(verdict(held), f"squared error after 9 examples: {finding}", figures)
