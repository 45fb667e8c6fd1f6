"""Evidence for methods that leave out heads, hidden units and layers: a ViT of digits, and a GPT of Shakespeare for layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.compression import axformer, head_pruning, layer_pruning, optin, vtrans
from everyformer.compression.axformer import mean_loss
from everyformer.compression.calibration import labelled
from everyformer.compression.optin import importance
from everyformer.compression.structures import allocate, gated, one_off, prunable, sliced, within, work
from everyformer.costs import flops, on_meta, parameters
from everyformer.data import Task, find_task
from everyformer.designs import design_of
from everyformer.edits import remove
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import SHORT
from everyformer.evidence.pretrained import fit
from everyformer.evidence.runs import arrays, logistic_regression, trained
from everyformer.objectives import Classification
from everyformer.recipe import load_recipe
from everyformer.training.speedup import calibration

SEEDS = 3
KEEP = 0.6
"""Of the FLOPs of a pass, as in OPTIN's tables."""


@cache
def vit() -> tuple[nn.Module, Task, list[dict[str, Tensor]]]:
    """The ViT of the digits recipe, its task, and 64 training pictures."""
    with trained("digits", "design.system=vit", "design.patch=2") as run:
        model = run.model
    task = find_task("image-classification").open(**load_recipe("digits").data)
    return model, task, calibration(task, 64)


def accuracy(model: nn.Module, split: str = "test") -> float:
    """The share of pictures told right."""
    return vit()[1].evaluate(model, split).metrics["accuracy"]


def share(model: nn.Module) -> float:
    """The share of the ViT's FLOPs that is left."""
    return flops(on_meta(design_of(model)))[""] / flops(on_meta(design_of(vit()[0])))[""]


def by_chance(keep: float) -> float:
    """The mean accuracy with units drawn at random within the same budget."""
    model, _, batches = vit()
    found, fields = prunable(model, "**.blocks.**"), labelled(batches, model)[0]
    total, each = work(model, found, fields)
    budget, scores = within(keep, total, found, each), []
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        drawn = {path: torch.rand(units.count, generator=generator) for path, units in found.items()}
        scores.append(accuracy(sliced(model, allocate(drawn, each, found, budget))))
    return sum(scores) / SEEDS


def tuned(model: nn.Module) -> nn.Module:
    """The model after 1,000 steps."""
    data = vit()[1]
    fit(model, Classification(), data, data.size("train"), 1000, 0, lr=1e-3)
    return model.eval()


MADE: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "optin": ("nine tenths of its FLOPs", lambda: optin(vit()[0], vit()[2], keep=0.9)),
    "vtrans": ("nine tenths of its FLOPs, 1,000 steps of tuning", lambda: tuned(vtrans(vit()[0], vit()[2], Classification(), keep=0.9))),
    "head-pruning": ("seven of its eight heads", lambda: head_pruning(vit()[0], vit()[2], Classification(), keep=0.875)),
    "axformer": ("what holds the loss of 64 pictures within half", lambda: axformer(vit()[0], vit()[2], Classification(), slack=0.5)),
}  # fmt: skip


def _learns(make: Callable[[], nn.Module]) -> Callable[[], Finding]:
    """First tried without tuning at four fifths (OPTIN, 0.9220) and at nine tenths (VTrans, 0.9304): below."""

    def run() -> Finding:
        made = make()
        figures = {"pruned": accuracy(made), "as trained": accuracy(vit()[0]), "share of FLOPs": share(made)}
        figures["logistic regression"] = logistic_regression(*arrays(vit()[1]))
        held = figures["pruned"] > figures["logistic regression"]
        return Finding(verdict(held), ", ".join(f"{value:.4f} {name}" for name, value in figures.items()), figures)

    return run


for _name, (_what, _make) in MADE.items():
    evidence(
        _name,
        kind="learns",
        claim=f"With {_what} a ViT of digits is still above logistic regression on pixels.",
    )(_learns(_make))


def _at_equal_flops(make: Callable[..., nn.Module], most: float) -> Finding:
    """What a method loses of the accuracy at KEEP of the FLOPs, and what units drawn at random lose."""
    plain, made = accuracy(vit()[0]), make(KEEP)
    figures = {
        "as trained": plain,
        "pruned": accuracy(made),
        "at random": by_chance(KEEP),
        "share of FLOPs": share(made),
    }
    held = plain - figures["pruned"] <= most and figures["pruned"] > figures["at random"]
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), said, figures)


@evidence(
    "optin",
    kind="claim",
    claim="At 60 % of the FLOPs, with no training, at most 2 points of accuracy are lost (abstract), and units drawn at random lose more.",
)
def optin_loses_little() -> Finding:
    """One batch of 16 pictures is looked at."""
    return _at_equal_flops(lambda keep: optin(vit()[0], vit()[2], keep=keep), 0.02)


@evidence(
    "optin",
    kind="claim",
    claim="Its scores rank units as their absence costs: Spearman's coefficient with the loss added is above 0.6.",
)
def optin_ranks() -> Finding:
    """Every head and hidden unit off by itself: the loss of 64 training pictures, beside the score on 16 of them."""
    model, _, batches = vit()
    found, given = prunable(model, "**.blocks.**"), labelled(batches, model)
    with torch.no_grad():
        scores = importance(model, found, {"inputs": given[0]["inputs"]})
    figures = {}
    for kind in ("heads", "hidden"):
        told, cost = [], []
        for path, units in found.items():
            for unit in range(units.count) if units.name == kind else ():
                with gated(model, {path: one_off(units, unit, model)}):
                    cost.append(mean_loss(model, given, Classification()))
                told.append(float(scores[path][unit]))
        ranks = [torch.tensor(each).argsort().argsort().double() for each in (told, cost)]
        figures[kind] = float(torch.corrcoef(torch.stack(ranks))[0, 1])
    said = ", ".join(f"{value:.3f} for {kind}" for kind, value in figures.items())
    return Finding(verdict(min(figures.values()) > 0.6), said, figures)


@evidence(
    "vtrans",
    kind="claim",
    claim="Trained gates alone (Faster-VTrans) leave out units at little loss: 2 points at 60 % of the FLOPs, less than at random.",
)
def vtrans_loses_little() -> Finding:
    """200 steps of the gates on 64 pictures, the weights as they were; rate and strength are the best of five on validation."""
    return _at_equal_flops(lambda keep: vtrans(vit()[0], vit()[2], Classification(), keep=keep), 0.02)


@evidence(
    "head-pruning",
    kind="claim",
    claim="Up to 20 to 40 % of the heads can go without noticeable loss (section 4.2), and by the score more than at random.",
)
def heads_can_go() -> Finding:
    """A share of all heads by score, and drawn at random; noticeable is more than a point."""
    model, _, batches = vit()
    figures = {"as trained": accuracy(model)}
    found = prunable(model, "**.mixer")
    one, total = dict.fromkeys(found, 1.0), sum(units.count for units in found.values())
    for keep in (0.75, 0.5):
        figures[f"{keep:.0%} of the heads"] = accuracy(head_pruning(model, batches, Classification(), keep=keep))
        drawn = []
        for seed in range(SEEDS):
            generator = torch.Generator().manual_seed(seed)
            scores = {path: torch.rand(units.count, generator=generator) for path, units in found.items()}
            drawn.append(accuracy(sliced(model, allocate(scores, one, found, keep * total))))
        figures[f"{keep:.0%} at random"] = sum(drawn) / SEEDS
    held = figures["75% of the heads"] > figures["as trained"] - 0.01
    held &= all(figures[f"{keep} of the heads"] > figures[f"{keep} at random"] for keep in ("75%", "50%"))
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), said, figures)


@evidence(
    "axformer",
    kind="claim",
    claim="Leaving out what held-out loss does not need gives a smaller model that is no less accurate (abstract: up to 4.5 % more).",
)
def axformer_is_no_worse() -> Finding:
    """The validation pictures decide, the test pictures score."""
    model, task, _ = vit()
    held_out = [task.batch("valid", range(task.size("valid")))]
    made: Any = axformer(model, held_out, Classification())
    figures = {"as trained": accuracy(model), "pruned": accuracy(made), "share of FLOPs": share(made)}
    figures["share of parameters"] = parameters(made) / parameters(model)
    held = figures["pruned"] >= figures["as trained"] and figures["share of parameters"] < 0.9
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), said, figures)


@evidence(
    "layer-pruning",
    kind="claim",
    claim="The layer that changes the direction of its tokens least is the one whose absence costs least.",
)
def least_turned() -> Finding:
    """A GPT of 4 layers after 600 steps on Shakespeare: the loss without each of them, and without the one that is chosen."""
    with trained("shakespeare", *SHORT) as run:
        model = run.model
    task = find_task("language-modelling").open(**load_recipe("shakespeare").data)

    def loss(made: nn.Module) -> float:
        return task.evaluate(made, "valid").metrics["loss"]

    figures = {"all": loss(model), "without the chosen one": loss(layer_pruning(model, calibration(task, 64)))}
    count = len(model.backbone.blocks)  # type: ignore[arg-type, union-attr]
    for i in range(count):
        figures[f"without layer {i}"] = loss(remove(copy.deepcopy(model), f"backbone.blocks.{i}"))
    held = figures["without the chosen one"] <= min(figures[f"without layer {i}"] for i in range(count)) + 1e-6
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), f"nats a character: {said}", figures)
