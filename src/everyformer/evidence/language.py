"""Evidence for language models, on Shakespeare by characters, and for text classifiers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from everyformer.data.tasks.language import LanguageModelling
from everyformer.data.tasks.texts import TextClassification
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import logistic_regression, scored, trained
from everyformer.recipe import load_recipe

SHORT = ("training.steps=600", "training.lr=3e-3", "training.evaluate_every=600", "training.warmup=60")
_LLAMA = ("design.system=llama", "design.size=nano")


def ngrams(text: Sequence[int], held_out: Sequence[int], shares: Sequence[float]) -> float:
    """Nats a token of an interpolated model of as many orders as there are shares (add-one unigrams)."""
    text, held_out = tuple(text), tuple(held_out)
    orders = range(1, len(shares) + 1)
    counts = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in orders]
    kinds = len({*text, *held_out})
    total, start = 0.0, len(shares) - 1
    for i in range(start, len(held_out)):
        known = (counts[0][held_out[i : i + 1]] + 1) / (len(text) + kinds)
        mixed = shares[0] * known
        for n in orders[1:]:
            before = counts[n - 2][held_out[i - n + 1 : i]]
            known = counts[n - 1][held_out[i - n + 1 : i + 1]] / before if before else known
            mixed += shares[n - 1] * known
        total -= math.log(mixed)
    return total / (len(held_out) - start)


def trigrams(text: Sequence[int], held_out: Sequence[int]) -> float:
    """Nats a token of an interpolated trigram model."""
    return ngrams(text, held_out, (0.1, 0.3, 0.6))


@cache
def trigrams_of_shakespeare() -> float:
    """Nats a character of counted trigrams on the validation part."""
    parts = LanguageModelling.open(**load_recipe("shakespeare").data).parts
    return trigrams(parts["train"].tolist(), parts["valid"].tolist())


@evidence("gpt", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def gpt_learns() -> Finding:
    """600 steps of nanoGPT's CPU setting."""
    ours = scored("shakespeare", *SHORT)
    baseline = trigrams_of_shakespeare()
    loss = ours["valid"]["loss"]
    held = loss < baseline
    return Finding(
        verdict(held), f"{loss:.4f} against {baseline:.4f} nats a character", {"gpt": loss, "trigrams": baseline}
    )


@evidence(
    "gpt",
    kind="claim",
    claim="In nanoGPT's published CPU setting (0.8 M parameters, 2,000 steps of 12 x 64) validation loss is at most 1.88.",
)
def gpt_nano() -> Finding:
    """The recipe as it stands, scored on the whole of the last tenth of the text."""
    ours = scored("shakespeare")
    loss = ours["valid"]["loss"]
    held = loss <= 1.88
    finding = (
        f"{loss:.4f} on the whole validation part, {ours['parameters']:,} parameters, {ours['training_seconds']:.0f} s"
    )
    return Finding(verdict(held), finding, {"loss": loss, "parameters": ours["parameters"], "steps": ours["steps"]})


@evidence("llama", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def llama_learns() -> Finding:
    """600 steps at the size of nanoGPT."""
    return _against_trigrams("llama", *SHORT)


@evidence("gpt-neox", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def gpt_neox_learns() -> Finding:
    """600 steps at the size of nanoGPT."""
    return _against_trigrams("gpt-neox", *SHORT)


@evidence("bloom", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def bloom_learns() -> Finding:
    """600 steps at the size of nanoGPT."""
    return _against_trigrams("bloom", *SHORT)


@evidence("gemma", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def gemma_learns() -> Finding:
    """600 steps at the size of nanoGPT, every second layer seeing 16 characters."""
    return _against_trigrams("gemma", "design.window=16", *SHORT)


def _against_trigrams(system: str, *overrides: str) -> Finding:
    """A system of the size of nanoGPT against an interpolated trigram model."""
    loss = scored("shakespeare", f"design.system={system}", "design.size=nano", *overrides)["valid"]["loss"]
    baseline = trigrams_of_shakespeare()
    held = loss < baseline
    return Finding(
        verdict(held), f"{loss:.4f} against {baseline:.4f} nats a character", {system: loss, "trigrams": baseline}
    )


@evidence(
    "llama",
    kind="claim",
    claim="Rotary positions, RMSNorm and SwiGLU learn faster than GPT-2's parts at equal size and steps (section 2.2).",
)
def llama_against_gpt() -> Finding:
    """600 steps each, two seeds."""
    losses: dict[str, list[float]] = {"llama": [], "gpt": []}
    for seed in ("training.seed=0", "training.seed=1"):
        losses["llama"].append(scored("shakespeare", *_LLAMA, *SHORT, seed)["valid"]["loss"])
        losses["gpt"].append(scored("shakespeare", *SHORT, seed)["valid"]["loss"])
    held = max(losses["llama"]) < min(losses["gpt"])
    ours, theirs = (sum(losses[name]) / 2 for name in ("llama", "gpt"))
    return Finding(verdict(held), f"{ours:.4f} against GPT-2's {theirs:.4f} nats a character after 600 steps", losses)


@evidence(
    "t5",
    kind="claim",
    claim="Relative position buckets carry over to inputs longer than trained on; learned positions do not (section 2.1).",
)
def t5_positions() -> Finding:
    """A decoder trained at 64 characters with each kind of position, scored at 64 and at 256."""
    bias = "{swap: backbone.blocks.*.mixer, with: {mixers.Attention: {heads: 4, bias: false, positions: {positions.Buckets: {both_ways: false}}}}}"
    none = "{set: embedding.positions, value: null}"
    return _carries_over("buckets", f"design.edits=[{bias},{none}]")


@evidence(
    "bloom",
    kind="claim",
    claim="A penalty on distance carries over to inputs longer than trained on; learned positions do not (section 3.2).",
)
def bloom_positions() -> Finding:
    """The same with a BLOOM of that size."""
    return _carries_over("distance", "design.system=bloom", "design.size=nano")


def _carries_over(kind: str, *overrides: str) -> Finding:
    """A decoder trained at 64 characters with one kind of position, and GPT-2's, scored at 64 and at 256."""
    figures = {}
    for name, options in {kind: overrides, "learned": ("design.length=256",)}.items():
        with trained("shakespeare", *SHORT, *options) as run:
            task = LanguageModelling.open(**{**load_recipe("shakespeare").data, "length": 256})
            figures[name] = {
                "64": run.result["valid"]["loss"],
                "256": task.evaluate(run.model, "valid").metrics["loss"],
            }
    kept = {name: f["256"] - f["64"] for name, f in figures.items()}
    held = kept[kind] < 0.05 < kept["learned"]
    finding = (
        f"from 64 to 256 characters the loss moves by {kept[kind]:+.3f} with {kind}, {kept['learned']:+.3f} learned"
    )
    return Finding(verdict(held), finding, figures)


@evidence("bert", kind="learns", claim="Accuracy on AG News from scratch is above TF-IDF with logistic regression.")
def bert_learns() -> Finding:
    """The ag_news recipe against a linear model of word counts, its strength chosen on the validation part."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    ours = scored("ag_news")
    task = TextClassification.open(**load_recipe("ag_news").data)
    texts = {split: task.texts[split] for split in ("train", "valid", "test")}
    labels = {split: np.array(task.parts[split][1]) for split in texts}
    words = TfidfVectorizer(sublinear_tf=True, max_features=8000).fit(texts["train"])
    baseline = logistic_regression({split: words.transform(each).toarray() for split, each in texts.items()}, labels)
    accuracy = ours["metrics"]["accuracy"]
    held = accuracy > baseline
    return Finding(verdict(held), f"{accuracy:.4f} against {baseline:.4f}", {"bert": accuracy, "tfidf": baseline})
