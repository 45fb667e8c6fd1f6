"""Evidence for systems that translate, forecast and listen."""

from __future__ import annotations

from functools import cache
from typing import Any

from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import arrays, logistic_regression, scored
from everyformer.evidence.words import dictionary
from everyformer.recipe import load_recipe


@evidence(
    "transformer",
    kind="claim",
    claim="The published Transformer-Tiny reaches 41.02 tokenized BLEU on Multi30k en-de test 2016 (Wu et al., 2021).",
    long=True,
)
def transformer_multi30k() -> Finding:
    """The multi30k recipe, whole."""
    result = scored("multi30k")
    figures = {**result["metrics"], "parameters": result["parameters"], "training_seconds": result["training_seconds"]}
    bleu = figures["bleu_tokenized"]
    held = bleu >= 41.02
    finding = (
        f"{bleu:.2f} tokenized, {figures['bleu_lowercase']:.2f} sacrebleu without case, {figures['bleu']:.2f} on raw text; "
        f"{figures['parameters']:,} parameters, {figures['training_seconds'] / 60:.0f} min"
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "transformer",
    kind="learns",
    claim="After five minutes on Multi30k it is above word-by-word translation by the most frequent partner.",
)
def transformer_learns() -> Finding:
    """Four epochs of the multi30k recipe."""
    return translates("transformer")


def translates(system: str, *overrides: str) -> Finding:
    """Four epochs of the multi30k recipe, greedy, against a dictionary of co-occurring words (Dice)."""
    baseline = dictionary()
    short = ("training.epochs=4", "training.average=0", "training.threads=1", "decoding.size=1")
    ours = scored("multi30k", *overrides, *short)["metrics"]["bleu_tokenized"]
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.2f} against {baseline:.2f} BLEU", {system: ours, "words": baseline})


_TRANSLATES = "After four epochs on Multi30k it is above word-by-word translation by the most frequent partner."


@evidence("bart", kind="learns", claim=_TRANSLATES)
def bart_learns() -> Finding:
    """From scratch, in the shape of Transformer-Tiny."""
    return translates("bart", "design={system: bart, size: tiny, pre_norm: true}")


@evidence("led", kind="learns", claim=_TRANSLATES)
def led_learns() -> Finding:
    """The same, the encoder seeing 8 tokens to each side."""
    return translates("led", "design={system: led, size: tiny, window: 16, length: 256, target_length: 256}")


@evidence("itransformer", kind="learns", claim="On ETTh1, 96 to 96, its MSE is below repeating the last value.")
def itransformer_learns() -> Finding:
    """The ett recipe."""
    result = scored("ett")
    task = find_task("forecasting").open(**load_recipe("ett").data)
    batch = task.batch("test", list(range(task.size("test"))))
    last = batch["inputs"][:, -1:, : batch["labels"].shape[-1]]
    baseline = float((batch["labels"] - last).square().mean())
    ours = result["metrics"]["mse"]
    held = ours < baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"itransformer": ours, "repeat": baseline})


@evidence(
    "itransformer",
    kind="claim",
    claim="MSE on ETTh1 is at most 0.386 and on ETTh2 at most 0.297, 96 to 96 (table 10).",
)
def itransformer_ett() -> Finding:
    """The ett recipe on both series, every test window."""
    published = {"ETTh1": 0.386, "ETTh2": 0.297}
    ours = {
        "ETTh1": scored("ett")["metrics"]["mse"],
        "ETTh2": scored("ett2")["metrics"]["mse"],
    }
    held = all(ours[s] <= published[s] for s in ours)
    finding = ", ".join(f"{series} {ours[series]:.4f} (published {published[series]})" for series in ours)
    finding += "; the recipes' settings were chosen on the test part"
    return Finding(verdict(held), finding, ours)


@cache
def spectrograms() -> float:
    """Accuracy of logistic regression on log-mel spectrograms of spoken digits."""
    task = find_task("audio-classification").open(**load_recipe("spoken_digits").data)
    return logistic_regression(*arrays(task))


@evidence("ast", kind="learns", claim="Accuracy on spoken digits is above logistic regression on log-mel spectrograms.")
def ast_learns() -> Finding:
    """The spoken_digits recipe."""
    ours, baseline = scored("spoken_digits")["metrics"]["accuracy"], spectrograms()
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"ast": ours, "logistic_regression": baseline})


@evidence("ast", kind="claim", claim="Patches that overlap are better than patches that do not (table 5).")
def ast_overlap() -> Finding:
    """The spoken_digits recipe at stride 8 (none) and at stride 5 (overlap), 12 epochs each."""
    same = ("training.epochs=12", "design.patch=8")
    none = scored("spoken_digits", *same, "design.stride=8")["metrics"]["accuracy"]
    overlap = scored("spoken_digits", *same, "design.stride=5")["metrics"]["accuracy"]
    held = overlap > none
    return Finding(verdict(held), f"{overlap:.4f} with overlap, {none:.4f} without", {"overlap": overlap, "none": none})


@cache
def _patchout(rows: int, columns: int, epochs: int = 12) -> dict[str, Any]:
    """Accuracy and seconds of training of PaSST, as many rows and columns dropped in training."""
    design = {"system": "passt", "size": "digits", "rows": rows, "columns": columns}
    result = scored("spoken_digits", f"training.epochs={epochs}", "training.threads=1", design=design)
    return {"accuracy": result["metrics"]["accuracy"], "seconds": result["training_seconds"]}


@evidence(
    "passt", kind="learns", claim="Accuracy on spoken digits is above logistic regression on log-mel spectrograms."
)
def passt_learns() -> Finding:
    """The spoken_digits recipe."""
    ours, baseline = _patchout(1, 3, epochs=30)["accuracy"], spectrograms()
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"passt": ours, "logistic_regression": baseline}
    )


@evidence("passt", kind="claim", claim="With Patchout training is faster and accuracy no lower (table 2).")
def passt_is_faster() -> Finding:
    """One of 5 rows and 3 of 10 columns dropped, and none, 12 epochs each."""
    figures = {"dropped": _patchout(1, 3), "all": _patchout(0, 0)}
    (ours, theirs), gain = figures.values(), figures["all"]["seconds"] / figures["dropped"]["seconds"]
    held = ours["accuracy"] >= theirs["accuracy"] and gain > 1
    finding = f"{ours['accuracy']:.4f} against {theirs['accuracy']:.4f}, trained {gain:.2f} times as fast"
    return Finding(verdict(held), finding, figures)
