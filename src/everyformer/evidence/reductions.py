"""Evidence for reductions: accuracy against processor time, on handwritten digits of 64 tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.contracts import Reduction
from everyformer.costs import flops, on_meta
from everyformer.data import find_task
from everyformer.designs import design_of
from everyformer.edits import insert
from everyformer.evidence.descent import learn
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.pictures import LONGER
from everyformer.evidence.runs import arrays, logistic_regression, scored, trained
from everyformer.objectives import TokenPruning
from everyformer.recipe import load_recipe
from everyformer.reduction import (
    ClassAttention,
    DynamicViT,
    EViT,
    PiToMe,
    RandomDrop,
    TokenTransforming,
    ToMe,
    ZeroTPrune,
    reduced,
)
from everyformer.reduction.applying import blocks_of, seconds, thirds
from everyformer.specs import Spec, spec

_CCT = ("data.image=16", "design.depth=4", "training.epochs=8")
_KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5)


@cache
def _plain() -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """A transformer of four blocks, trained once, with what it was trained on and the samples that it has not seen."""
    with trained("digits", *_CCT) as run:
        model = run.model
    task = find_task("image-classification").open(**load_recipe("digits", _CCT).data)
    seen = task.batch("train", list(range(task.size("train"))))
    unseen = [task.batch(split, list(range(task.size(split)))) for split in ("valid", "test")]
    return model, seen, {name: torch.cat([each[name] for each in unseen]) for name in unseen[0]}


@cache
def _pixels() -> float:
    """Logistic regression on pixels."""
    return logistic_regression(*arrays(find_task("image-classification").open(**load_recipe("digits").data)))


@torch.no_grad()
def _figures(model: nn.Module) -> dict[str, float]:
    """Accuracy, and processor seconds for a batch of 64."""
    _, _, unseen = _plain()
    model.eval()
    for each in model.modules():
        if isinstance(each, RandomDrop):
            each.train()
    right = float((model(unseen["inputs"]).argmax(-1) == unseen["labels"]).float().mean())
    return {"accuracy": right, "seconds": _time(model, unseen["inputs"][:64])}


def _time(model: nn.Module, inputs: Tensor) -> float:
    modes = [(each, each.training) for each in model.modules()]
    found = seconds(model, {"inputs": inputs}, repeats=9)
    for each, training in modes:
        each.training = training
    return found


def _sweep(part: type[Reduction], **options: Any) -> dict[str, dict[str, float]]:
    """The trained model, and the same with a reduction at a quarter, a half and three quarters of its depth."""
    model = _plain()[0]
    whole = flops(on_meta(design_of(model)))[""]
    found = {"plain": {**_figures(model), "flops": 1.0}}
    for keep in _KEEPS:
        made = reduced(model, Spec(part, {"keep": keep, **options}))
        found[f"keep {keep}"] = {**_figures(made), "flops": flops(on_meta(design_of(made)))[""] / whole}
    return found


def _bar(part: type[Reduction], faster: float, points: float, **options: Any) -> Finding:
    """The fastest of a sweep that loses at most `points` of accuracy, against the paper's headline."""
    found = _sweep(part, **options)
    plain = found["plain"]
    within = {name: each for name, each in found.items() if plain["accuracy"] - each["accuracy"] <= points / 100 + 1e-9}
    name = min(within, key=lambda each: within[each]["seconds"])
    gain = plain["seconds"] / within[name]["seconds"]
    held = gain >= faster
    finding = (
        f"{gain:.2f} times the speed at {name}: {within[name]['accuracy']:.4f} against {plain['accuracy']:.4f}, "
        f"{within[name]['flops']:.0%} of the FLOPs"
    )
    return Finding(verdict(held), finding, found)


def _order(part: type[Reduction], *others: type[Reduction], keep: float) -> Finding:
    """Accuracy at one share kept, of one reduction and of others; what is random is the mean of five draws."""
    model = _plain()[0]
    figures = {}
    for each in (part, *others):
        made = reduced(model, Spec(each, {"keep": keep}))
        figures[each.__name__] = mean(_figures(made)["accuracy"] for _ in range(5 if each is RandomDrop else 1))
    ranked = [figures[each.__name__] for each in (part, *others)]
    held = ranked == sorted(ranked, reverse=True)
    return Finding(verdict(held), ", ".join(f"{name} {value:.4f}" for name, value in figures.items()), figures)


def _without_training(part: type[Reduction]) -> Finding:
    """At 70 % three times over, against logistic regression."""
    ours = _figures(reduced(_plain()[0], Spec(part, {"keep": 0.7})))["accuracy"]
    held = ours > _pixels()
    return Finding(
        verdict(held), f"{ours:.4f} against {_pixels():.4f}", {"ours": ours, "logistic_regression": _pixels()}
    )


def _register(name: str, part: type[Reduction]) -> Callable[[], Finding]:
    claim = "In a trained model, a third of the tokens gone at each of three depths, it is above logistic regression."
    return evidence(name, kind="learns", claim=claim)(lambda: _without_training(part))


for _name, _part in (
    ("tome", ToMe), ("pitome", PiToMe), ("evit", EViT), ("zero-tprune", ZeroTPrune),
    ("token-transforming", TokenTransforming),
):  # fmt: skip
    _register(_name, _part)


@evidence("tome", kind="claim", claim="1.5 times the speed without training for at most 0.4 points (DeiT-S, table 4).")
def tome_is_faster() -> Finding:
    """Processor time, one thread."""
    return _bar(ToMe, 1.5, 0.4)


@evidence(
    "pitome", kind="claim", claim="At an equal share kept it is above ToMe, and ToMe above random tokens (table 2)."
)
def pitome_order() -> Finding:
    """Half of the tokens gone three times over."""
    return _order(PiToMe, ToMe, RandomDrop, keep=0.5)


@evidence("pitome", kind="claim", claim="40 to 60 % fewer FLOPs for at most 0.5 points without training.")
def pitome_saves() -> Finding:
    """The smallest share of FLOPs within half a point."""
    found = _sweep(PiToMe)
    least = min(each["flops"] for each in found.values() if found["plain"]["accuracy"] - each["accuracy"] <= 0.005)
    held = least <= 0.6
    return Finding(verdict(held), f"{1 - least:.0%} fewer FLOPs within half a point", found)


@evidence("evit", kind="claim", claim="Tokens that are attended to are worth more than random ones (table 7).")
def evit_order() -> Finding:
    """Half of the tokens gone three times over, without training; with and without the fused token."""
    return _order(EViT, ClassAttention, RandomDrop, keep=0.5)


@evidence(
    "zero-tprune", kind="claim", claim="+45 % throughput for at most 0.4 points without training (DeiT-S, table 1)."
)
def zero_tprune_is_faster() -> Finding:
    """Processor time, one thread."""
    return _bar(ZeroTPrune, 1.45, 0.4)


@evidence(
    "token-transforming", kind="claim", claim="1.5 times the speed for at most 0.1 points without training (abstract)."
)
def token_transforming_is_faster() -> Finding:
    """Processor time, one thread."""
    return _bar(TokenTransforming, 1.5, 0.1)


@cache
def _taught(keep: float, epochs: int = 3) -> nn.Module:
    """The trained model with predictors at three depths, and its copy without them for a teacher."""
    teacher, seen, _ = _plain()
    model, design = copy.deepcopy(teacher), design_of(teacher)
    for stage, at in reversed([*enumerate(thirds(design), 1)]):
        insert(model, f"{blocks_of(design)}.{at}", spec(DynamicViT, keep=keep**stage), seed=0)
    objective = TokenPruning()
    objective.teach(copy.deepcopy(teacher))
    torch.manual_seed(0)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(seen["labels"])).split(64)]

    def batch(step: int) -> dict[str, Tensor]:
        return {name: value[batches[step]] for name, value in seen.items()}

    return learn(model, objective, batch, len(batches), lr=1e-3, weight_decay=0.01)


@evidence(
    "dynamic-vit", kind="claim", claim="31 to 37 % fewer FLOPs and 40 % more throughput within 0.5 points (abstract)."
)
def dynamic_vit_is_faster() -> Finding:
    """Three epochs of its objective from the trained model, 70 %, 49 % and 34 % of the tokens left."""
    plain, ours = _figures(_plain()[0]), _figures(_taught(0.7))
    gain = plain["seconds"] / ours["seconds"]
    lost = plain["accuracy"] - ours["accuracy"]
    held = gain >= 1.4 and lost <= 0.005
    finding = f"{gain:.2f} times the speed: {ours['accuracy']:.4f} against {plain['accuracy']:.4f}"
    return Finding(verdict(held), finding, {"plain": plain, "dynamic-vit": ours, "logistic_regression": _pixels()})


@evidence(
    "dynamic-vit", kind="learns", claim="Trained to drop two thirds of its tokens it is above logistic regression."
)
def dynamic_vit_learns() -> Finding:
    """The same training."""
    ours = _figures(_taught(0.7))["accuracy"]
    held = ours > _pixels()
    return Finding(
        verdict(held), f"{ours:.4f} against {_pixels():.4f}", {"ours": ours, "logistic_regression": _pixels()}
    )


@evidence(
    "tokenlearner",
    kind="learns",
    claim="With 8 learned tokens after half of its blocks it is above logistic regression.",
)
def tokenlearner_learns() -> Finding:
    """120 epochs of the digits recipe."""
    result = scored("digits", "design.system=tokenlearner", "design.patch=2", *LONGER)
    ours = result["metrics"][result["metric"]]
    held = ours > _pixels()
    return Finding(
        verdict(held), f"{ours:.4f} against {_pixels():.4f}", {"ours": ours, "logistic_regression": _pixels()}
    )
