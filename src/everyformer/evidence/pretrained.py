"""Evidence for pretraining on pictures without labels: what it is worth where labels are few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from statistics import mean
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

import everyformer
from everyformer.data import find_task
from everyformer.edits import insert, remove
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import logistic_regression
from everyformer.heads import CellHead
from everyformer.objectives import (
    ClassesAndWords,
    Classification,
    HiddenPixels,
    HiddenWords,
    HybridDistillation,
    Loss,
    Objective,
    Places,
)
from everyformer.objectives.relations import last_attention
from everyformer.recipe import load_recipe
from everyformer.reduction import Redundant

SIZE = {"image": 8, "patch": 2, "channels": 1, "width": 64, "depth": 2, "heads": 4, "ratio": 2.0}
LABELS = 100
SEEDS = 2


def task(**changes: Any) -> Any:
    """The digits."""
    return find_task("image-classification").open(**{**load_recipe("digits").data, **changes})


def fit(model: nn.Module, objective: Objective, data: Any, rows: int, steps: int, seed: int, lr: float = 2e-3) -> None:
    """AdamW over the first `rows` training pictures, with warm-up and a cosine to zero."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    chosen = torch.Generator().manual_seed(seed)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(steps):
            indices = torch.randint(rows, (min(rows, 128),), generator=chosen).tolist()
            loss = objective(model, data.batch("train", indices, train=True, seed=step))
            optimiser.zero_grad()
            (loss.total / loss.count).backward()
            optimiser.step()
            schedule.step()


def accuracy_with_few_labels(model: nn.Module, data: Any, objective: Objective, seed: int) -> float:
    """Test accuracy after training on LABELS labelled pictures."""
    fit(model, objective, data, LABELS, 200, seed)
    return float(data.evaluate(model.eval(), "test").metrics["accuracy"])


def carried(tuned: nn.Module, pretrained: nn.Module) -> nn.Module:
    """The model that is tuned with the weights of the pretrained one that have a place in it."""
    theirs = pretrained.state_dict()
    ours = tuned.state_dict()
    tuned.load_state_dict({**ours, **{k: v for k, v in theirs.items() if k in ours and ours[k].shape == v.shape}})
    return tuned


def worth(
    system: str, objective: Callable[[], Objective], settle: Callable[[Any, Any], None] = lambda tuned, pretrained: None,
    both: Mapping[str, Any] = MappingProxyType({}), **pretraining: Any,
) -> Finding:  # fmt: skip
    """Accuracy with few labels after pretraining on all pictures, and from scratch; `both` are options of both models."""
    data = task()
    every = data.size("train")
    figures: dict[str, list[float]] = {"pretrained": [], "from scratch": []}
    for seed in range(SEEDS):
        first = everyformer.create(system, seed=seed, **SIZE, **both, **pretraining)
        learner = objective()
        if isinstance(learner, HiddenWords):
            learner.learn(data.batch("train", range(every))["inputs"])
        fit(first, learner, data, every, 400, seed)
        for name in figures:
            tuned = everyformer.create(system, seed=seed, classes=10, **SIZE, **both)
            if name == "pretrained":
                settle(carried(tuned, first), first)
            figures[name].append(accuracy_with_few_labels(tuned, data, Classification(), seed))
    return compared(figures)


def compared(figures: dict[str, list[float]]) -> Finding:
    """The first of two rows of figures above the second, or not."""
    (one, ours), (other, theirs) = figures.items()
    held = mean(ours) > mean(theirs)
    return Finding(verdict(held), f"{mean(ours):.4f} {one}, {mean(theirs):.4f} {other} ({len(ours)} seeds)", figures)


_CLAIM = f"With {LABELS} labelled digits, pretraining on all pictures without labels is above training from scratch"


@evidence("vit-mae", kind="claim", claim=f"{_CLAIM} (table 3).")
def mae_is_worth_it() -> Finding:
    """Three quarters of 16 patches hidden, pixels told."""
    return worth(
        "vit-mae", lambda: HiddenPixels(patch=2), narrow=32, narrow_depth=1, narrow_heads=2
    )  # fmt: skip


@evidence("beit", kind="claim", claim=f"{_CLAIM} (table 1).")
def beit_is_worth_it() -> Finding:
    """Two fifths of 16 patches hidden, 32 visual words; the shared biases become those of each layer."""

    def settle(tuned: Any, pretrained: Any) -> None:
        for block in tuned.backbone.blocks:
            block.mixer.positions.load_state_dict(pretrained.backbone.positions.state_dict())

    return worth("beit", lambda: HiddenWords(patch=2, words=32), settle, both={"scale": 1.0}, visual_words=32)


@evidence("mp3", kind="claim", claim=f"{_CLAIM}, also where only the latter knew positions from the start (table 2).")
def mp3_is_worth_it() -> Finding:
    """A quarter of 16 patches seen, all places asked."""
    return worth("mp3", Places)


@evidence("supervised-mim", kind="claim", claim="Masked image modelling beside few labels is above the labels alone.")
def words_beside_labels() -> Finding:
    """100 labelled digits; half of 16 patches hidden, 32 visual words."""
    data = task()
    figures: dict[str, list[float]] = {"with words": [], "labels alone": []}
    for seed in range(SEEDS):
        both = ClassesAndWords(patch=2, words=32)
        both.learn(data.batch("train", range(data.size("train")))["inputs"])
        for name, objective in zip(figures, (both, Classification())):
            model = everyformer.create("supervised-mim", seed=seed, classes=10, visual_words=32, **SIZE)
            figures[name].append(accuracy_with_few_labels(model, data, objective, seed))
    return compared(figures)


@evidence(
    "vit-mae",
    kind="learns",
    claim="Of hidden patches it says more than the mean of that place over the training pictures.",
)
def mae_learns() -> Finding:
    """1,600 steps: the squared error on test pictures against that of the mean of each pixel over the training pictures.

    Pictures stand still: with three quarters hidden nothing would say how far one has been moved.
    """
    data = task(shift=0)
    model = everyformer.create("vit-mae", seed=0, narrow=32, narrow_depth=1, narrow_heads=2, **SIZE)
    objective = HiddenPixels(patch=2, normalised=False)
    fit(model, objective, data, data.size("train"), 1600, 0)
    parts = {split: data.batch(split, range(data.size(split)))["inputs"] for split in ("train", "test")}
    with torch.no_grad():
        noise = torch.rand(len(parts["test"]), 16, generator=torch.Generator().manual_seed(0))
        loss = objective(model.eval(), {"inputs": parts["test"], "noise": noise})
        ours = float(loss.total / loss.count)
        hidden = noise.argsort(1).argsort(1) >= 4
        cells = {name: each.unfold(2, 2, 2).unfold(3, 2, 2).flatten(1, 3) for name, each in parts.items()}
        gap = (cells["test"] - cells["train"].mean(0)).square().mean((-1, -2))
        baseline = float(gap[hidden].mean())
    held = ours < baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"vit-mae": ours, "mean": baseline})


@evidence("mp3", kind="learns", claim="It finds the place of a patch more often than chance, 1 in 16.")
def mp3_learns() -> Finding:
    """Places of the patches of test pictures, a quarter of them seen."""
    data = task()
    model = everyformer.create("mp3", seed=0, **SIZE)
    fit(model, Places(), data, data.size("train"), 400, 0)
    inputs = data.batch("test", range(data.size("test")))["inputs"]
    seen = torch.rand(len(inputs), 16, generator=torch.Generator().manual_seed(0)).argsort(1).argsort(1) < 4
    with torch.no_grad():
        right = (model.eval()(inputs, seen=seen).argmax(-1) == torch.arange(16)).float().mean().item()
    held = right > 1 / 16
    return Finding(verdict(held), f"{right:.4f} against {1 / 16:.4f}", {"right": right, "chance": 1 / 16})


@evidence(
    "hybrid-distillation",
    kind="claim",
    claim="A student of both teachers attends more diversely than one of features alone, and is told apart better than one of "
    "relations alone.",
)
def two_teachers() -> Finding:
    """Digits without labels for the student: a masked autoencoder for relations, a trained classifier for features.

    Diversity is 1 less the mean cosine of the heads' weights in the last attention; quality the test accuracy of logistic
    regression on the mean patch.
    """
    ways = {
        "both": (1.0, HybridDistillation),
        "features alone": (0.0, HybridDistillation),
        "relations alone": (1.0, _Relations),
    }
    figures: dict[str, float] = {}
    for name, (alpha, objective) in ways.items():
        student = _taught(objective(alpha=alpha))
        figures[f"{name}, accuracy"] = _probed(student, task())
        figures[f"{name}, diversity"] = _diversity(student, task())
    held = figures["both, diversity"] > figures["features alone, diversity"]
    held &= figures["both, accuracy"] > figures["relations alone, accuracy"]
    said = ", ".join(f"{value:.4f} {name}" for name, value in figures.items())
    return Finding(verdict(held), said, figures)


@evidence(
    "hybrid-distillation",
    kind="learns",
    claim="Of a student of both teachers that is left fewer and fewer patches, those least like the others, more digits are told "
    "right than of one that was not taught, and as many within a point as of one that is left all.",
)
def redundant_patches_masked() -> Finding:
    """Three quarters of the patches before the first block and again before the second; the students are scored on all."""
    made = _taught(HybridDistillation(), keep=0.75)
    for path in ("backbone.blocks.2", "backbone.blocks.0"):
        remove(made, path)
    students = {
        "step by step": made,
        "all patches": _taught(HybridDistillation()),
        "not taught": everyformer.create("vit", classes=10, seed=2, **SIZE).eval(),
    }
    figures = {name: _probed(each, task()) for name, each in students.items()}
    held = figures["step by step"] > max(figures["not taught"], figures["all patches"] - 0.01)
    return Finding(verdict(held), ", ".join(f"{value:.4f} {name}" for name, value in figures.items()), figures)


@cache
def _teachers() -> tuple[Any, Any]:
    """Of features a trained classifier, of relations a masked autoencoder."""
    data = task()
    every = data.size("train")
    masked = everyformer.create("vit-mae", seed=0, **SIZE, narrow=32, narrow_depth=1, narrow_heads=2)
    fit(masked, HiddenPixels(patch=2), data, every, 300, 0)
    features = everyformer.create("vit", seed=1, classes=10, **SIZE)
    fit(features, Classification(), data, every, 300, 0)
    return features, carried(everyformer.create("vit", seed=0, classes=10, **SIZE), masked)


def _taught(learner: HybridDistillation, keep: float = 1.0) -> Any:
    """A student after 200 steps; less than all patches are kept before each of its two blocks."""
    data, head = task(), everyformer.spec(CellHead, outputs=int(SIZE["width"]))
    student: Any = everyformer.design("vit", classes=10, **SIZE).swap("head", head).build(seed=2)
    for i in (1, 0) if keep < 1 else ():
        insert(student, f"backbone.blocks.{i}", everyformer.spec(Redundant, keep=keep))
    learner.teach(*_teachers())
    fit(student, learner, data, data.size("train"), 200, 0)
    return student.eval()


class _Relations(HybridDistillation):
    """The relations alone."""

    def forward(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        with torch.no_grad(), last_attention(self._teachers[1]) as theirs:
            self._teachers[1].features(batch["inputs"])
        with last_attention(model) as ours:
            said = model(batch["inputs"])
        losses = self.related(ours, theirs, torch.ones(said.shape[:2], dtype=torch.bool))
        return Loss(losses.sum(), torch.tensor(len(losses)))


@torch.no_grad()
def _probed(student: Any, data: Any) -> float:
    inputs, labels = {}, {}
    for split in ("train", "valid", "test"):
        batch = data.batch(split, range(data.size(split)))
        tokens = student.features(batch["inputs"])
        inputs[split], labels[split] = tokens.values[:, tokens.prefix :].mean(1).numpy(), batch["labels"].numpy()
    return logistic_regression(inputs, labels)


@torch.no_grad()
def _diversity(student: Any, data: Any) -> float:
    weights: list[torch.Tensor] = []
    mixer = student.backbone.blocks[-1].mixer
    handle = mixer.weights.register_forward_hook(lambda _, __, value: weights.append(value))
    student(data.batch("test", range(100))["inputs"])
    handle.remove()
    heads = torch.nn.functional.normalize(weights[0].flatten(2), dim=-1)
    count = heads.shape[1]
    same = (heads @ heads.mT).sum((1, 2)) - count
    return float(1 - (same / count / (count - 1)).mean())
