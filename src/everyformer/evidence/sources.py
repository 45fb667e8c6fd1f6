"""Evidence for translation from several sources: German and French into English, of Multi30k."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.data.padding import pad_right
from everyformer.data.tasks.translation import Translation
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import ngrams
from everyformer.recipe import load_recipe

STRATEGIES = ("serial", "parallel", "flat", "hierarchical")
SHAPE = {"vocabulary": 2000, "width": 64, "hidden": 128, "depth": 2, "heads": 4, "dropout": 0.0, "pre_norm": True}
STEPS, BATCH = 1000, 32
Rows = dict[str, list[Any]]


@cache
def texts() -> tuple[dict[str, Rows], Translation]:
    """Ids of each sentence by part and language, each with its end, and the task that they are the ids of."""
    data = {**load_recipe("multi30k").data, "target": "en", "vocabulary": SHAPE["vocabulary"]}
    tasks = {language: Translation.open(**{**data, "input": language}) for language in ("de", "fr")}
    task = tasks["de"]
    parts = {}
    for split in ("train", "test"):
        parts[split] = {language: task.encode(each.texts[split][0]) for language, each in tasks.items()}
        parts[split]["en"] = task.encode(task.texts[split][1])
    return parts, task


def batch(rows: Rows, sources: tuple[str, ...], indices: list[int], second: list[int]) -> dict[str, Tensor]:
    """Sources one after the other, of the last language those of the sentences `second`, and what is to be written."""
    _, task = texts()
    words = task.vocabulary
    asked = [[rows[each][j if each == sources[-1] else i] for each in sources] for i, j in zip(indices, second)]
    inputs, mask = pad_right([torch.cat([torch.from_numpy(s) for s in each]).numpy() for each in asked], words.pad)
    labels, real = pad_right([rows["en"][i] for i in indices], words.pad)
    target = torch.cat((torch.full((len(indices), 1), words.begin), labels[:, :-1]), 1)
    return {
        "inputs": inputs, "mask": mask, "target": target, "target_mask": real, "labels": labels.masked_fill(~real, -100),
    }  # fmt: skip


def total(model: nn.Module, given: dict[str, Tensor]) -> tuple[Tensor, int]:
    """The sum of the nats of all tokens, and how many there are."""
    labels = given.pop("labels")
    loss = F.cross_entropy(model(**given).flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return loss, int((labels != -100).sum())


def taught(model: nn.Module, sources: tuple[str, ...], steps: int = STEPS) -> nn.Module:
    """A model of these sources after some steps, each of sentences of about one length, so that little is padding."""
    rows = texts()[0]["train"]
    generator = torch.Generator().manual_seed(0)
    ordered = sorted(range(len(rows["en"])), key=lambda i: sum(len(each[i]) for each in rows.values()))

    def loss(step: int) -> Tensor:
        first = int(torch.randint(len(ordered) - BATCH, (), generator=generator))
        chosen = ordered[first : first + BATCH]
        nats, count = total(model, batch(rows, sources, chosen, chosen))
        return nats / count

    return descend(model, loss, steps, lr=6e-3, rate=warmed(50))


def transformer() -> nn.Module:
    """The Transformer of that shape, untrained."""
    return ef.create("transformer", **SHAPE, seed=0)


@cache
def learnt(strategy: str, sources: tuple[str, ...]) -> nn.Module:
    """A model of these sources after some steps; of one source it is the Transformer."""
    if len(sources) == 1:
        return taught(transformer(), sources)
    made = ef.create("multi-source-transformer", **SHAPE, strategy=strategy, sources=len(sources), seed=0)
    return taught(made, sources)


@torch.no_grad()
def tried(model: nn.Module, sources: tuple[str, ...], *, other: bool = False) -> float:
    """Nats a token of the test part; with `other` the last source is that of another sentence."""
    rows, found = texts()[0]["test"], []
    for indices in torch.arange(len(rows["en"])).split(100):
        second = (indices + 1) % len(rows["en"]) if other else indices
        found.append(total(model, batch(rows, sources, indices.tolist(), second.tolist())))
    return sum(float(each) for each, _ in found) / sum(count for _, count in found)


def nats(strategy: str, sources: tuple[str, ...], *, other: bool = False) -> float:
    """The same of the model of a strategy."""
    return tried(learnt(strategy, sources), sources, other=other)


@cache
def counted() -> float:
    """Nats a token of the test part under an interpolated bigram model of the English of the training part."""
    shown, asked = ([int(i) for each in texts()[0][split]["en"] for i in each] for split in ("train", "test"))
    return ngrams(shown, asked, (0.2, 0.8))


@evidence(
    "multi-source-transformer",
    kind="learns",
    claim="It writes the English of Multi30k's German and French with fewer nats a token than an interpolated bigram model.",
)
def multi_source_learns() -> Finding:
    """1,000 steps at width 64, attention to both side by side."""
    figures = {"parallel": nats("parallel", ("de", "fr")), "bigrams": counted()}
    holds = figures["parallel"] < figures["bigrams"]
    finding = f"{figures['parallel']:.4f} against {figures['bigrams']:.4f} nats a token"
    return Finding(verdict(holds), finding, figures)


@evidence(
    "multi-source-transformer",
    kind="claim",
    claim="Models use several sources and are better than those of one (abstract).",
)
def several_sources_are_better() -> Finding:
    """Four strategies against either source alone; then with the French of another sentence."""
    alone = {language: nats("", (language,)) for language in ("de", "fr")}
    both = {strategy: nats(strategy, ("de", "fr")) for strategy in STRATEGIES}
    misled = {strategy: nats(strategy, ("de", "fr"), other=True) for strategy in STRATEGIES}
    holds = max(both.values()) < min(alone.values()) and all(misled[each] > both[each] + 0.1 for each in STRATEGIES)
    finding = (
        ", ".join(f"{name} {each:.4f} ({misled[name]:.4f} with another's French)" for name, each in both.items())
        + "; "
        + ", ".join(f"{name} alone {each:.4f}" for name, each in alone.items())
        + " nats a token"
    )
    return Finding(verdict(holds), finding, {"alone": alone, "both": both, "misled": misled})
