"""Evidence for smaller vocabularies, factored weights, layers made of two and vectors kept comparable: Shakespeare and digits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.backbones import LinearExpansion
from everyformer.compression import LowRank, bt2, dsformer, idt5, tleg
from everyformer.compression.calibration import BLOCKS, linears
from everyformer.costs import memory, on_meta, parameters
from everyformer.data import Task, find_task
from everyformer.edits import swap
from everyformer.evidence.descent import learn
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import SHORT, trigrams_of_shakespeare
from everyformer.evidence.pretrained import SIZE, fit, task
from everyformer.evidence.runs import trained
from everyformer.objectives import BackwardCompatible, Classification, Distillation, NextToken
from everyformer.recipe import load_recipe
from everyformer.specs import spec

RANK, NONZEROS = 32, 12


@cache
def gpt() -> tuple[nn.Module, Task]:
    """600 steps of nanoGPT's CPU setting, and its task."""
    with trained("shakespeare", *SHORT) as run:
        return run.model, find_task("language-modelling").open(**load_recipe("shakespeare").data)


def loss(model: nn.Module) -> float:
    """Nats a character on the validation part."""
    return gpt()[1].evaluate(model, "valid").metrics["loss"]


@cache
def factored(steps: int) -> nn.Module:
    """Dense-sparse factors of all maps inside blocks, trained for some steps."""
    model, data = gpt()
    batches = [data.batch("train", range(12), train=True, seed=seed) for seed in range(max(steps, 1))]
    return dsformer(model, batches, NextToken(), rank=RANK, nonzeros=NONZEROS, steps=steps, lr=1e-3)


@evidence(
    "dsformer", kind="learns", claim="With factored weights a trained GPT is still below trigrams on Shakespeare."
)
def dsformer_learns() -> Finding:
    """200 steps of training through the factors."""
    ours, baseline = loss(factored(200)), trigrams_of_shakespeare()
    held = ours < baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f} nats a character", {"ours": ours, "trigrams": baseline}
    )


@evidence(
    "dsformer",
    kind="claim",
    claim="At equal storage dense-sparse factors lose less than low rank, and training them through the selection mends more.",
)
def dsformer_is_denser() -> Finding:
    """Bytes of the maps; low rank of as many, both as they are found and the factors after 200 steps."""
    model = gpt()[0]
    paths = [*linears(model, BLOCKS)]
    figures = {"as trained": loss(model), "factors": loss(factored(0)), "factors, trained": loss(factored(200))}
    size = memory(factored(0))
    ranks = [rank for rank in range(1, RANK + 1) if memory(_low(model, paths, rank)) <= size]
    figures["low rank"] = loss(_low(model, paths, ranks[-1]))
    figures["bytes"], figures["bytes of low rank"] = size, memory(_low(model, paths, ranks[-1]))
    held = figures["factors"] < figures["low rank"] and figures["factors, trained"] < figures["factors"]
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items() if "bytes" not in name)
    return Finding(verdict(held), f"nats a character: {said}", figures)


def _low(model: nn.Module, paths: list[str], rank: int) -> nn.Module:
    return swap(copy.deepcopy(model), paths, spec(LowRank, rank=rank))


@evidence(
    "idt5",
    kind="claim",
    claim="One language's rows of the vocabulary make a model up to 58 % smaller with nearly the same scores (abstract).",
)
def idt5_is_smaller() -> Finding:
    """mT5-base with 30,000 tokens, counted; a GPT of bytes with those of Shakespeare alone, scored."""
    whole, part = (parameters(on_meta(ef.design("t5", "v1.1-base", vocabulary=n))) for n in (250112, 30000))
    options = ("data.tokens=bytes", "training.steps=200", "training.evaluate_every=200", "training.warmup=20")
    with trained("shakespeare", *options, "training.lr=3e-3") as run:
        model: Any = run.model
    data: Any = find_task("language-modelling").open(**{**load_recipe("shakespeare").data, "tokens": "bytes"})
    used = sorted(set(data.parts["train"].tolist()) | set(data.parts["valid"].tolist()))
    small = idt5(model, kept=used)
    number = torch.zeros(256, dtype=torch.long)
    number[used] = torch.arange(len(used))
    losses: dict[str, float] = {}
    batch = data.batch("valid", range(min(64, data.size("valid") - 1)))
    with torch.no_grad():
        for name, made, ids in (("whole", model, lambda x: x), ("trimmed", small, lambda x: number[x])):
            found = NextToken()(made, {"inputs": ids(batch["inputs"]), "labels": ids(batch["labels"])})
            losses[name] = float(found.total / found.count)
    figures = {**losses, "mT5": whole, "idT5": part, "share gone": 1 - part / whole}
    held = figures["share gone"] > 0.57 and losses["trimmed"] <= losses["whole"] + 1e-5
    said = f"{whole / 1e6:.0f} to {part / 1e6:.0f} M parameters; {losses['whole']:.4f} and {losses['trimmed']:.4f} nats a byte"
    return Finding(verdict(held), said, figures)


@cache
def learngene() -> tuple[nn.Module, nn.Module]:
    """A ViT of digits with 6 layers out of two, taught by an ordinary one, and that one."""
    data = task()
    size = {**SIZE, "classes": 10, "depth": 6}
    ancestor: Any = ef.create("vit", seed=0, **size)
    fit(ancestor, Classification(), data, data.size("train"), 250, 0)
    design = ef.design("vit", **size)
    block = design.get("backbone.blocks.0")
    model = design.set("backbone.blocks", (spec(LinearExpansion, block=block, depth=6),)).build(seed=0)
    learner = Distillation()
    learner.teach(ancestor)
    fit(model, learner, data, data.size("train"), 250, 0)
    return model, ancestor


def _tuned(make: Callable[[int], nn.Module], steps: int = 40) -> dict[str, float]:
    """Test accuracy of models of several depths after few steps."""
    data, figures = task(), {}
    for depth in (4, 8):
        model = make(depth)
        if steps:
            fit(model, Classification(), data, data.size("train"), steps, 0, lr=5e-4)
        figures[str(depth)] = float(data.evaluate(model.eval(), "test").metrics["accuracy"])
    return figures


def _first_layers(depth: int) -> nn.Module:
    """The first layers of the ancestor, over and over."""
    plain = copy.deepcopy(learngene()[1])
    given = plain.state_dict()
    made = ef.design("vit", **{**SIZE, "classes": 10, "depth": depth}).build(seed=0)
    source = {f"backbone.blocks.{i}.": f"backbone.blocks.{i % 6}." for i in range(depth)}
    weights = {name: each for name, each in given.items() if ".blocks." not in name}
    for ours, theirs in source.items():
        weights |= {ours + name.removeprefix(theirs): each for name, each in given.items() if name.startswith(theirs)}
    made.load_state_dict(weights)
    return made


@evidence(
    "tleg",
    kind="claim",
    claim="Models of other depths begun from the two layers are ahead after little training of those begun at random or with an "
    "ancestor's first layers.",
)
def learngene_begins_well() -> Finding:
    """Depths 4 and 8 after 40 steps on digits."""
    ways = {
        "expanded": lambda depth: tleg(learngene()[0], depth=depth),
        "first layers": _first_layers,
        "at random": lambda depth: ef.create("vit", seed=1, **{**SIZE, "classes": 10, "depth": depth}),
    }
    found = {name: _tuned(make) for name, make in ways.items()}
    figures: dict[str, Any] = {**found, "stored": parameters(learngene()[0]), "of 6 layers": parameters(learngene()[1])}
    held = all(found["expanded"][d] > max(found[n][d] for n in ("first layers", "at random")) for d in ("4", "8"))
    said = "; ".join(
        f"{name}: " + ", ".join(f"{v:.4f} at {d}" for d, v in each.items()) for name, each in found.items()
    )
    return Finding(verdict(held), said, figures)


class _Embedder(nn.Module):
    """What the head of a classifier reads, of length one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.head.pool(self.model.features(inputs)), dim=-1)


def _precision(queries: torch.Tensor, gallery: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean average precision of finding the same class, the query itself left out."""
    scores = (F.normalize(queries, dim=-1) @ F.normalize(gallery, dim=-1).T).fill_diagonal_(-2)
    order = scores.argsort(1, descending=True)[:, :-1]
    right = (labels[order] == labels[:, None]).float()
    ranks = torch.arange(1, right.shape[1] + 1)
    return float(((right.cumsum(1) / ranks * right).sum(1) / right.sum(1)).mean())


@evidence(
    "bt2",
    kind="claim",
    claim="Old vectors are found by new ones better than by old ones, and new ones by new ones as well as without the constraint; "
    "without more dimensions they are not.",
)
def old_galleries_are_found() -> Finding:
    """Digits: an old model that saw the classes 0 to 4, a new one for all; mean average precision on the test pictures."""
    data = task()
    every = data.batch("train", range(data.size("train")))
    few = (every["labels"] < 5).nonzero().flatten()
    size = {**SIZE, "classes": 10}
    old: Any = ef.create("vit", seed=0, **{**size, "width": 32, "depth": 1})

    def batch(step: int) -> dict[str, Tensor]:
        rows = few[torch.randint(len(few), (128,), generator=torch.Generator().manual_seed(step))]
        return {name: each[rows] for name, each in every.items()}

    learn(old, Classification(), batch, 150, lr=2e-3, weight_decay=0.01)
    new: Any = ef.create("vit", seed=1, **{**size, "width": 32})
    fit(new, Classification(), data, data.size("train"), 250, 0)
    vectors = {"old": _Embedder(old.eval()), "new": _Embedder(new.eval())}
    for name, extra in (("bt2", 16), ("no more dimensions", 0)):
        model = bt2(new, old=32, extra=extra)
        objective = BackwardCompatible()
        objective.teach(vectors["old"], vectors["new"])
        fit(model, objective, data, data.size("train"), 250, 0)
        vectors[name] = model.eval()
    test = data.batch("test", range(data.size("test")))
    with torch.no_grad():
        told = {name: each(test["inputs"]) for name, each in vectors.items()}
    figures = {"old by old": _precision(told["old"], told["old"], test["labels"])}
    for name in ("bt2", "no more dimensions"):
        figures[f"old by {name}"] = _precision(told[name][:, :32], told["old"], test["labels"])
        figures[f"{name} by {name}"] = _precision(told[name], told[name], test["labels"])
    figures["new by new"] = _precision(told["new"], told["new"], test["labels"])
    held = figures["old by bt2"] > figures["old by old"] and figures["bt2 by bt2"] > figures["new by new"] - 0.01
    held &= figures["bt2 by bt2"] > figures["no more dimensions by no more dimensions"]
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), said, figures)
