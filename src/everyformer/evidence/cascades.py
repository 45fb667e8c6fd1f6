"""Evidence for designs that spend tokens where they are needed, and for those that are searched, on handwritten digits."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import flops, on_meta
from everyformer.data import find_task
from everyformer.designs import Design, design_of
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import arrays, logistic_regression
from everyformer.models import thresholds_for
from everyformer.recipe import load_recipe
from everyformer.training.architectures import Space, SuperNetwork, cost_of, evolve, grouped

_STEPS, _BATCH = 500, 64


@cache
def _digits(image: int) -> Any:
    return find_task("image-classification").open(**{**load_recipe("digits").data, "image": image})


def _part(split: str, image: int) -> tuple[Tensor, Tensor]:
    task = _digits(image)
    batch = task.batch(split, range(task.size(split)))
    return batch["inputs"], batch["labels"]


def _drawn(step: int, image: int) -> tuple[Tensor, Tensor]:
    task = _digits(image)
    chosen = torch.randint(task.size("train"), (_BATCH,), generator=torch.Generator().manual_seed(step)).tolist()
    batch = task.batch("train", chosen, train=True, seed=step)
    return batch["inputs"], batch["labels"]


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(-1) == labels).float().mean())


def _exits(model: Any, pictures: Tensor) -> Tensor:
    """The answers of all members (M, B, classes)."""
    context = Context(notes={})
    last = model(pictures, context=context)
    assert context.notes is not None
    return torch.stack([*context.notes.values(), last])


@cache
def _cascade(reuse: bool) -> Any:
    """Two networks, of 2x2 and of 4x4 patches, that learn together, one told by the other or not."""
    design = ef.design(
        "dvt", classes=10, image=8, channels=1, grids=(2, 4), width=48, depth=2, heads=4, ratio=2.0, reused=16, inner=32
    )
    if not reuse:
        plain = design.get("members.0.backbone.blocks.0")
        design = design.swap("members.1.backbone.blocks.*", plain).set("members.*.backbone.blocks.*.mixer.steps", ())

    def loss(step: int) -> Tensor:
        pictures, labels = _drawn(step, 8)
        return torch.stack([F.cross_entropy(each, labels) for each in _exits(model, pictures)]).sum()

    model: Any = design.build(seed=0)
    return descend(model, loss, 3 * _STEPS, lr=3e-3, rate=warmed(50), weight_decay=0.05)


@evidence("dvt", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def dvt_learns() -> Finding:
    """The last exit after 1,500 steps."""
    pictures, labels = _part("test", 8)
    with torch.no_grad():
        ours = _accuracy(_exits(_cascade(True), pictures)[-1], labels)
    baseline = logistic_regression(*arrays(_digits(8)))
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"accuracy": ours, "logistic_regression": baseline}
    )


@evidence(
    "dvt", kind="claim", claim="Easy pictures leave early: a third of the cost goes, and at most a point (figure 5)."
)
def dvt_leaves_early() -> Finding:
    """The thresholds at which half of the validation part leaves first, used on the test part."""
    model, (pictures, labels) = _cascade(True), _part("test", 8)
    with torch.no_grad():
        sure = _exits(model, _part("valid", 8)[0]).softmax(-1).amax(-1)
        whole = _accuracy(_exits(model, pictures)[-1], labels)
    answers, exits = model.decide(pictures, thresholds_for(sure, (0.5,)))
    early = float((exits == 0).float().mean())
    design = design_of(model)
    first, both = (flops(on_meta(each))[""] for each in (Design(design.get("members.0")), design))
    spent = 1 - early * (1 - first / both)
    figures = {"last exit": whole, "early exits": _accuracy(answers, labels), "left early": early, "cost": spent}
    holds = figures["early exits"] > whole - 0.01 and spent < 0.67
    finding = (
        f"{figures['early exits']:.4f} for {spent:.0%} of the cost, {whole:.4f} for all of it; {early:.0%} left early"
    )
    return Finding(verdict(holds), finding, figures)


@evidence("dvt", kind="claim", claim="What is reused raises the second exit (table 3).")
def dvt_reuses() -> Finding:
    """With both kinds of reuse, and without."""
    pictures, labels = _part("test", 8)
    with torch.no_grad():
        reused, plain = (_accuracy(_exits(_cascade(each), pictures)[-1], labels) for each in (True, False))
    held = reused > plain
    return Finding(verdict(held), f"{reused:.4f} with reuse, {plain:.4f} without", {"reused": reused, "plain": plain})


@cache
def _retrieving(keep: int) -> float:
    """Test accuracy of a ViT of 2x2 coarse patches that reads `keep` of 64 fine ones; 0: none."""
    options: dict[str, Any] = {
        "classes": 10, "image": 16, "channels": 1, "patch": 8, "width": 48, "depth": 2, "heads": 4, "ratio": 2.0,
    }  # fmt: skip
    system = "hypothesis-c" if keep else "vit"
    model = ef.create(system, **options, **({"fine": 2, "keep": keep} if keep else {}), seed=0)

    def loss(step: int) -> Tensor:
        pictures, labels = _drawn(step, 16)
        return F.cross_entropy(model(pictures), labels)

    descend(model, loss, _STEPS, lr=3e-3, rate=warmed(50), weight_decay=0.05)
    pictures, labels = _part("test", 16)
    with torch.no_grad():
        return _accuracy(model(pictures), labels)


@evidence("hypothesis-c", kind="learns", claim="Test accuracy on digits is above the same ViT without fine patches.")
def retrieval_learns() -> Finding:
    """Eight of 64 fine patches, and none."""
    ours, plain = _retrieving(8), _retrieving(0)
    held = ours > plain
    return Finding(verdict(held), f"{ours:.4f} against {plain:.4f}", {"retrieving": ours, "coarse alone": plain})


@evidence("hypothesis-c", kind="claim", claim="An eighth of the fine patches is enough: within a point of reading all.")
def few_are_enough() -> Finding:
    """Eight of 64, and all."""
    few, all_of_them = _retrieving(8), _retrieving(64)
    held = few > all_of_them - 0.01
    return Finding(verdict(held), f"{few:.4f} with 8, {all_of_them:.4f} with all 64", {"few": few, "all": all_of_them})


_CHOICES: dict[str, tuple[int, ...]] = {
    "widths.0": (16, 24, 32), "widths.1": (32, 48, 64), "heads.0.0": (1, 2), "heads.1.0": (2, 4),
    "hidden.0.0": (16, 32, 64), "hidden.1.0": (32, 64, 128),
}  # fmt: skip
_SPACE = Space(
    lambda chosen: ef.design(
        "vit-resnas", classes=10, image=16, channels=1, patch=4, middle=8, head_widths=(16, 16), drop_path=0.0,
        **grouped(chosen),
    ),
    _CHOICES,
)  # fmt: skip


@evidence(
    "vit-resnas",
    kind="claim",
    claim="What evolution finds in one trained network is above what is drawn (section 4.3).",
)
def searching_finds_more() -> Finding:
    """The same 16 networks drawn at random, and as many more evolved or drawn; inherited weights, then the test part once."""
    whole = SuperNetwork(_SPACE, seed=0)
    generator = random.Random(0)

    def loss(step: int) -> Tensor:
        pictures, labels = _drawn(step, 16)
        return F.cross_entropy(whole.several(pictures, [_SPACE.draw(generator) for _ in range(4)]), labels)

    descend(whole, loss, _STEPS, lr=3e-3, rate=warmed(50), weight_decay=0.05)
    valid, test = _part("valid", 16), _part("test", 16)

    @torch.no_grad()
    def score(chosen: Any) -> float:
        return _accuracy(whole(valid[0], chosen), valid[1])

    limit = 0.6 * cost_of(_SPACE.make(_SPACE.largest()))
    found = evolve(_SPACE, score, limit=limit, first=16, generations=2, parents=4, children=4)
    drawn = evolve(_SPACE, score, limit=limit, first=32, generations=0)
    figures: dict[str, Any] = {"limit": limit, "evolved": len(found), "drawn": len(drawn)}
    for name, best in (("best evolved", found[0]), ("best drawn", drawn[0])):
        with torch.no_grad():
            tested = _accuracy(whole(test[0], best.chosen), test[1])
        figures[name] = {"valid": best.score, "test": tested, "cost": best.cost, "chosen": dict(best.chosen)}
    ours, theirs = (figures[name]["valid"] for name in ("best evolved", "best drawn"))
    held = ours > theirs
    one, other = (figures[name]["test"] for name in ("best evolved", "best drawn"))
    finding = f"{ours:.4f} of {len(found)} evolved, {theirs:.4f} of {len(drawn)} drawn; on the test part {one:.4f} and {other:.4f}"
    return Finding(verdict(held), finding, figures)


@evidence("turbovit", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def a_search_finds_a_turbovit() -> Finding:
    """Sizes under a limit by 60 steps of training each, the best then trained in full."""

    def made(chosen: Any) -> ef.Design:
        return ef.design("turbovit", classes=10, image=32, channels=1, local=1, ratio=2.0, **grouped(chosen))

    def taught(chosen: Any, steps: int) -> Any:
        model: Any = made(chosen).build(seed=0)

        def loss(step: int) -> Tensor:
            pictures, labels = _drawn(step, 32)
            return F.cross_entropy(model(pictures), labels)

        return descend(model, loss, steps, lr=3e-3, rate=warmed(20), weight_decay=0.05)

    valid, test = _part("valid", 32), _part("test", 32)

    @torch.no_grad()
    def score(chosen: Any) -> float:
        return _accuracy(taught(chosen, 60)(valid[0]), valid[1])

    space = Space(
        made, {"width": (16, 24, 32), "depths.0": (1, 2), "depths.1": (1, 2), "unit": (2, 4), "heads": (1, 2)}
    )
    limit = 0.5 * cost_of(made(space.largest()))
    found = evolve(space, score, limit=limit, first=4, generations=1, parents=2, children=1)
    with torch.no_grad():
        ours = _accuracy(taught(found[0].chosen, _STEPS)(test[0]), test[1])
    baseline = logistic_regression(*arrays(_digits(8)))
    held = ours > baseline
    finding = f"{ours:.4f} of the best of {len(found)}, {dict(found[0].chosen)}, against {baseline:.4f}"
    figures = {"accuracy": ours, "logistic_regression": baseline, "cost": found[0].cost, "limit": limit}
    return Finding(verdict(held), finding, {**figures, "chosen": dict(found[0].chosen)})
