"""Evidence for decoders of long texts: streams in bounded memory, memories of segments, layers of different spans."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.data.tasks.language import LanguageModelling
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import ngrams
from everyformer.evidence.runs import scored, trained
from everyformer.generation import Sinks, loss_of_stream
from everyformer.mixers.lean import shares
from everyformer.recipe import load_recipe

_SHORT = ("training.steps=400", "training.lr=3e-3", "training.evaluate_every=400", "training.warmup=40")
_NARROW = ("design.size=nano", "design.width=64", "design.depth=2")


def shakespeare() -> dict[str, Tensor]:
    """The parts of Shakespeare by characters."""
    return LanguageModelling.open(**load_recipe("shakespeare").data).parts


def streams(ids: Tensor, count: int) -> Tensor:
    """A text cut into `count` pieces of equal length, one under the other."""
    return ids[: len(ids) // count * count].view(count, -1)


def _learns(system: str, *options: str) -> Callable[[], Finding]:
    def run() -> Finding:
        loss = scored("shakespeare", f"design.system={system}", *_NARROW, *options, *_SHORT)["valid"]["loss"]
        parts = shakespeare()
        baseline = ngrams(parts["train"].tolist(), parts["valid"].tolist(), (0.2, 0.8))
        held = loss < baseline
        return Finding(
            verdict(held), f"{loss:.4f} against {baseline:.4f} nats a character", {system: loss, "bigrams": baseline}
        )

    return run


for _system, _options in {
    "masformer": ("design.length=64", "design.span=16"),
    "transformer-xl": ("design.hidden=256", "design.memory=32"),
}.items():
    evidence(_system, kind="learns", claim="Validation loss on Shakespeare is below an interpolated bigram model's.")(
        _learns(_system, *_options)
    )


@evidence(
    "streaming-llm",
    kind="claim",
    claim="Past the length of training a window alone breaks down, with 4 first tokens beside it the loss stays (table 1).",
)
def streaming_sinks() -> Finding:
    """A decoder with rotary positions trained at 64 characters, 8 streams of 700: the loss past the first 100."""
    policies = {
        "all": None,
        "window of 64": Sinks(sinks=0, window=64),
        "4 sinks and 60": Sinks(sinks=4, window=60),
        "1 sink and 63": Sinks(sinks=1, window=63),
    }
    with trained("shakespeare", "design.system=llama", *_NARROW, "design.hidden=172", *_SHORT) as run:
        ids = streams(shakespeare()["valid"], 8)[:, :701]
        figures = {
            name: loss_of_stream(run.model, ids, policy, segment=1, skip=100) for name, policy in policies.items()
        }
        figures["at most 64"] = run.result["valid"]["loss"]
    gain = figures["window of 64"] - figures["4 sinks and 60"]
    held = gain > 0.05 and figures["4 sinks and 60"] < figures["at most 64"] + 0.05
    finding = ", ".join(f"{name} {loss:.4f}" for name, loss in figures.items())
    return Finding(verdict(held), f"nats a character: {finding}", figures)


def by_segments(memory: int, steps: int = 300, segment: int = 32, batch: int = 16) -> Any:
    """A small Transformer-XL trained on consecutive segments, with the states of the last `memory` tokens at hand."""
    torch.manual_seed(0)
    parts = shakespeare()
    vocabulary = 1 + max(int(each.max()) for each in parts.values())
    shape = {"vocabulary": vocabulary, "width": 64, "hidden": 256, "depth": 2, "heads": 4, "memory": 64, "dropout": 0.0}
    model = ef.create("transformer-xl", **shape)
    ids = streams(parts["train"], batch)
    cache = Cache(Sinks(sinks=0, window=memory)) if memory else None

    def loss(step: int) -> Tensor:
        piece = ids[:, step * segment : (step + 1) * segment + 1]
        logits = model.decode(piece[:, :-1], Context(cache=cache))
        return F.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())

    return descend(model, loss, steps, lr=3e-3, rate=warmed(40), weight_decay=0.01)


@evidence(
    "transformer-xl",
    kind="claim",
    claim="States of the segments before lower the loss, and more of them than in training lower it no less (table 7).",
)
def xl_memory() -> Finding:
    """Segments of 32 characters, trained with a memory of 32 and with none; scored with 32 and with 96."""
    ids = streams(shakespeare()["valid"], 32)[:, :1025]
    recurrent, alone = by_segments(32), by_segments(0)

    def restarted() -> float:
        rows = ids[:, :1024].reshape(-1, 32)
        rows = torch.cat((rows[:-1], rows[1:, :1]), 1)
        return loss_of_stream(alone, rows, None, segment=32)

    figures = {
        "none": restarted(),
        "32": loss_of_stream(recurrent, ids, Sinks(sinks=0, window=32), segment=32),
        "96": loss_of_stream(recurrent, ids, Sinks(sinks=0, window=96), segment=32),
    }
    held = figures["32"] < figures["none"] and figures["96"] < figures["32"] + 0.005
    finding = ", ".join(f"{loss:.4f} with a memory of {name}" for name, loss in figures.items())
    return Finding(verdict(held), f"nats a character: {finding}", figures)


@evidence(
    "masformer",
    kind="claim",
    claim="With full attention in a quarter of its layers it loses no more than 2 % to full attention in all (abstract).",
)
def masformer_layers() -> Finding:
    """Four layers of span 16 over 192 characters, 200 steps: none, the first, all with full attention."""
    shape = ("design.system=masformer", "design.size=nano", "design.width=64", "data.length=192", "design.span=16")
    short = ("training.steps=200", "training.evaluate_every=200", "training.warmup=20", "training.batch=6")
    figures = {
        name: scored("shakespeare", *shape, *short, f"design.full={full}")["valid"]["loss"]
        for name, full in {"none": "[]", "one": "[0]", "all": "[0,1,2,3]"}.items()
    }
    held = figures["one"] <= 1.02 * figures["all"]
    finding = ", ".join(f"{loss:.4f} with {name}" for name, loss in figures.items())
    return Finding(verdict(held), f"nats a character: {finding}", figures)


@evidence(
    "combiner",
    kind="claim",
    claim="At the cost of N^1.5 it loses less than a window that forms as many scores (section 5.2).",
)
def combiner_window() -> Finding:
    """Two layers over 256 characters, 200 steps: segments of 16, and a window of the 24 scores that they take on average."""
    short = ("training.steps=200", "training.evaluate_every=200", "training.warmup=20", "training.batch=6")
    shape = (*_NARROW, "data.length=256", *short)
    figures = {
        "combiner": scored("shakespeare", "design.system=combiner", *shape)["valid"]["loss"],
        "window": scored("shakespeare", "design.system=masformer", "design.full=[]", "design.span=24", *shape)["valid"][
            "loss"
        ],
    }
    held = figures["combiner"] < figures["window"]
    finding = ", ".join(f"{loss:.4f} with {name}" for name, loss in figures.items())
    return Finding(verdict(held), f"nats a character: {finding}", figures)


@evidence(
    "lean-attention",
    kind="claim",
    claim="Shared out evenly, ragged batches take fewer steps than with a worker a head or fixed splits (figures 7 and 8).",
)
def lean_steps() -> Finding:
    """Tiles of the busiest of 108 workers over 200 random batches; the kernel's time needs a GPU."""
    draw, workers, heads = random.Random(0), 108, 32
    saved = {"a worker a head": 0.0, "4 splits a head": 0.0}
    never_worse = True
    for _ in range(200):
        tiles = [draw.randint(1, 256) for _ in range(draw.randint(1, 8)) for _ in range(heads)]
        lean = max(sum(last - first for _, first, last in share) for share in shares(tiles, workers))
        whole = _busiest(tiles, workers)
        split = _busiest([part for count in tiles for part in _cut(count, 4)], workers)
        never_worse = never_worse and lean <= min(whole, split)
        saved["a worker a head"] += whole / lean / 200
        saved["4 splits a head"] += split / lean / 200
    finding = ", ".join(f"{ratio:.2f} times as many steps with {name}" for name, ratio in saved.items())
    return Finding(verdict(never_worse), finding, saved)


def _cut(count: int, parts: int) -> list[int]:
    return [count * (i + 1) // parts - count * i // parts for i in range(parts)]


def _busiest(pieces: list[int], workers: int) -> int:
    """Tiles of the worker with most, where each takes the next piece as soon as it is free."""
    loads = [0] * workers
    for piece in pieces:
        at = loads.index(min(loads))
        loads[at] += piece
    return max(loads)
