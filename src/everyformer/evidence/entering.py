"""Evidence for what words and bytes come into a model as, on Shakespeare."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import everyformer as ef
from everyformer.data.tasks.language import LanguageModelling
from everyformer.edits import resize, swap
from everyformer.evidence.decoders import continued, shakespeare
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import ngrams
from everyformer.evidence.runs import scored
from everyformer.models import frozen_glyphs
from everyformer.recipe import load_recipe

_WORDS = (
    "data.tokens=words",
    "data.vocabulary=4096",
    "data.length=48",
    "training.steps=600",
    "training.evaluate_every=600",
)
_ONE = "{set: embedding.table, value: {embeddings.BinaryFilters: {hidden: 512}}}"


@cache
def words(*more: str) -> dict[str, Any]:
    """The result of a small Llama of words of Shakespeare, its table tied to the head."""
    return scored("shakespeare", "design.system=llama", "design.size=nano", "design.tied=true", *_WORDS, *more)


@evidence(
    "alone", kind="learns", claim="A decoder of words whose vectors are made of one is below counted pairs of words."
)
def alone_learns() -> Finding:
    """Words of Shakespeare, 600 steps, against an interpolated bigram model."""
    task = LanguageModelling.open(**{**load_recipe("shakespeare").data, "tokens": "words", "vocabulary": 4096})
    ours = words(f"design.edits=[{_ONE}]")["valid"]["loss"]
    pairs = ngrams(task.parts["train"].tolist(), task.parts["valid"].tolist(), (0.3, 0.7))
    return Finding(
        verdict(ours < pairs), f"{ours:.4f} against {pairs:.4f} nats a word", {"alone": ours, "pairs": pairs}
    )


@evidence(
    "alone", kind="claim", claim="With a fraction of the weights it is within a few percent of a full table (table 2)."
)
def alone_is_enough() -> Finding:
    """The same decoder with both: within 5 % counts."""
    ours, full = words(f"design.edits=[{_ONE}]"), words()
    one, all_ = (each["valid"]["loss"] for each in (ours, full))
    counts = [each["parameters"] for each in (ours, full)]
    finding = f"{one:.4f} with {counts[0]:,} parameters in all, {all_:.4f} with {counts[1]:,}"
    return Finding(verdict(one < 1.05 * all_), finding, {"alone": one, "table": all_, "parameters": counts})


@cache
def drawn(kind: str) -> float:
    """Validation loss of a decoder of characters after 300 steps, its table frozen drawings, frozen noise, or trained."""
    task = shakespeare()
    model = ef.create("gpt", "nano", vocabulary=task.vocabulary.size, length=64, seed=0)
    letters = [task.vocabulary.decode([i]) for i in range(task.vocabulary.size)]
    frozen_glyphs(model, letters)
    if kind == "noise":
        swap(model, "embedding.table", ef.spec(ef.embeddings.FixedVectors), seed=1)
    if kind == "trained":
        resize(model, "embedding.table", None, seed=1)
    return continued(model, steps=300)


@evidence(
    "frozen-visual-unicode", kind="learns", claim="With frozen drawings a decoder is below counted pairs of characters."
)
def drawings_learn() -> Finding:
    """Shakespeare by characters, 300 steps, against an interpolated bigram model."""
    parts = shakespeare().parts
    ours, pairs = drawn("drawings"), ngrams(parts["train"].tolist(), parts["valid"].tolist(), (0.1, 0.9))
    return Finding(verdict(ours < pairs), f"{ours:.4f} against {pairs:.4f} nats", {"drawings": ours, "pairs": pairs})


@evidence(
    "frozen-visual-unicode",
    kind="claim",
    claim="Frozen drawings are as good a table as a trained one (abstract): within 2 %, and no worse than frozen noise.",
)
def drawings_are_enough() -> Finding:
    """The same decoder, all else trained, at equal steps."""
    figures = {kind: drawn(kind) for kind in ("drawings", "noise", "trained")}
    holds = figures["drawings"] < 1.02 * figures["trained"] and figures["drawings"] <= figures["noise"]
    return Finding(verdict(holds), ", ".join(f"{kind} {loss:.4f}" for kind, loss in figures.items()), figures)


@cache
def spelled(tokens: str) -> dict[str, float]:
    """Bits a byte of the test part of the recipe of bytes, as it is and misspelt, of a variant of about the same work."""
    recipe = load_recipe("bytes").compare["designs"][tokens]
    changes = [f"data.{name}={value}" for name, value in recipe.get("data", {}).items()]
    design = {name: value for name, value in recipe.items() if name not in ("data", "training")}
    steps = round(recipe.get("training", {}).get("steps", 300) * 0.5)
    figures = scored("bytes", *changes, f"training.steps={steps}", design={**load_recipe("bytes").design, **design})[
        "metrics"
    ]
    return {name: figures[name] for name in ("bits_per_byte", "misspelt")}


@evidence(
    "hierarchical-autoregressive",
    kind="learns",
    claim="Bits a byte on Shakespeare are below an interpolated trigram model's.",
)
def hierarchy_learns() -> Finding:
    """Half of the steps of the recipe of bytes."""
    task = LanguageModelling.open(**load_recipe("bytes").data)
    counted = ngrams(task.parts["train"].tolist(), task.parts["test"].tolist(), (0.1, 0.3, 0.6)) / math.log(2)
    ours = spelled("hierarchical")["bits_per_byte"]
    return Finding(verdict(ours < counted), f"{ours:.4f} against {counted:.4f}", {"ours": ours, "trigrams": counted})


@evidence(
    "hierarchical-autoregressive",
    kind="claim",
    claim="Misspellings cost it less than a model of subwords, which it matches on clean text (abstract).",
)
def hierarchy_is_robust() -> Finding:
    """A tenth of the letters misspelt; within 5 % on clean text, the rise in bits a byte smaller."""
    figures = {name: spelled(name) for name in ("hierarchical", "bpe")}
    ours, theirs = figures.values()
    rises = [each["misspelt"] - each["bits_per_byte"] for each in figures.values()]
    holds = rises[0] < rises[1] and ours["bits_per_byte"] < 1.05 * theirs["bits_per_byte"]
    finding = "; ".join(
        f"{name} {each['bits_per_byte']:.3f} bits a byte, {each['misspelt']:.3f} misspelt"
        for name, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)
