"""Evidence for designs that say what things are to each other, on rendered rooms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.boxes import centred, regions
from everyformer.data.scenes import FAR, KINDS, Scene, render
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import logistic_regression
from everyformer.heads import ClassHead, FirstToken
from everyformer.objectives import Classification, ExpertGroups, Objective
from everyformer.specs import spec

RELATIONS = ("nothing", "left of", "right of", "hides", "hidden by", "in front of", "behind")
"""From frequent to rare."""
_NEAR, _COVERED = 0.4, 0.15
_SIDE, _CELLS, _STEPS, _BATCH = 48, 8, 1500, 64
_PARTS = {"train": range(30_000, 31_200), "valid": range(32_000, 32_200), "test": range(33_000, 33_400)}


@dataclass(frozen=True)
class _Pairs:
    """All pairs of things of some rooms."""

    batch: dict[str, Tensor]
    labels: Int[Tensor, " B"]


def related(scene: Scene) -> list[tuple[int, int, int]]:
    """Subject, object and relation of every two things: the rarest that holds."""
    side = scene.picture.shape[0]
    depths = [float(scene.depth[scene.things == number].mean()) for number in range(len(scene.kinds))]
    found = []
    for a, b in permutations(range(len(scene.kinds)), 2):
        one, other = scene.boxes[a] / side, scene.boxes[b] / side
        inner = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(0)
        least = min((box[2:] - box[:2]).prod() for box in (one, other))
        nearer = depths[a] < depths[b]
        apart = (one[0] + one[2] - other[0] - other[2]) / 2
        if inner.prod() > _COVERED * least:
            name = "hides" if nearer else "hidden by"
        elif inner[0] > 0:
            name = "in front of" if nearer else "behind"
        elif abs(apart) < _NEAR:
            name = "left of" if apart < 0 else "right of"
        else:
            name = "nothing"
        found.append((a, b, RELATIONS.index(name)))
    return found


@cache
def _pairs(part: str) -> _Pairs:
    looks, depths, boxes, kinds, labels = [], [], [], [], []
    for scene in (render(seed, side=_SIDE) for seed in _PARTS[part]):
        told = related(scene)
        if not told:
            continue
        pairs = torch.tensor([each[:2] for each in told])
        own = torch.from_numpy(scene.boxes) / _SIDE
        picture = (torch.from_numpy(scene.picture).permute(2, 0, 1).float() - 128) / 64
        far = torch.from_numpy(scene.depth)[None] / FAR
        cut = [regions(each[None], own[None], _CELLS)[0] for each in (picture, far)]
        looks.append(cut[0][pairs])
        depths.append(cut[1][pairs])
        boxes.append(centred(own)[pairs])
        kinds.append(torch.tensor(scene.kinds)[pairs])
        labels.append(torch.tensor([each[2] for each in told]))
    names = ("inputs", "depth", "boxes", "kinds")
    fields = {name: torch.cat(each) for name, each in zip(names, (looks, depths, boxes, kinds), strict=True)}
    return _Pairs(fields, torch.cat(labels))


def _trained(design: ef.Design, objective: Objective) -> nn.Module:
    """A design that learns by that objective."""
    model, pairs = design.build(seed=0), _pairs("train")
    objective.train()
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(pairs.labels), (_BATCH,), generator=generator)
        given = {name: each[chosen] for name, each in pairs.batch.items()}
        return {**given, "labels": pairs.labels[chosen]}

    return learn(model, objective, batch, _STEPS, lr=1e-3, rate=warmed(50), weight_decay=0.01, clip=1.0)


def _design() -> ef.Design:
    return ef.design(
        "veto", groups=(2, 2, 2), channels=3, depth_channels=1, side=_CELLS, kinds=len(KINDS), words=16, place_width=16,
        width=48, depth_width=24, depth=2, heads=4, dropout=0.1,
    )  # fmt: skip


@cache
def _recalls(experts: bool) -> dict[str, float]:
    """Of the pairs of other rooms how many are told rightly, of all and of each relation by itself."""
    if experts:
        counts = torch.bincount(_pairs("train").labels, minlength=len(RELATIONS))[1:]
        model = _trained(_design(), ExpertGroups(counts=tuple(counts.tolist())))
    else:
        head = spec(ClassHead, classes=len(RELATIONS), pool=spec(FirstToken))
        model = _trained(_design().set("head", head), Classification())
    pairs = _pairs("test")
    with torch.no_grad():
        told = model(**pairs.batch).argmax(1)
    right = (told == pairs.labels).float()
    each = {name: float(right[pairs.labels == i].mean()) for i, name in enumerate(RELATIONS) if i}
    return {"all": float(right.mean()), "mean": sum(each.values()) / len(each), **each}


@evidence(
    "veto", kind="learns", claim="It tells the relations of things better than logistic regression on their boxes."
)
def veto_learns() -> Finding:
    """One head for all relations; the share of pairs that are told rightly."""
    inputs: dict[str, Any] = {part: _flat(_pairs(part).batch["boxes"]) for part in _PARTS}
    baseline = logistic_regression(inputs, {part: _pairs(part).labels.numpy() for part in _PARTS})
    ours = _recalls(experts=False)["all"]
    return Finding(verdict(ours > baseline), f"{ours:.4f} against {baseline:.4f}", {"ours": ours, "boxes": baseline})


def _flat(boxes: Float[Tensor, "B 2 4"]) -> np.ndarray:
    return boxes.flatten(1).numpy()


@evidence("veto", kind="claim", claim="Experts for relations of like frequency raise the mean recall (abstract).")
def veto_experts() -> Finding:
    """Three experts, or one map to all relations by cross entropy."""
    figures = {"experts": _recalls(experts=True), "one head": _recalls(experts=False)}
    shown = "; ".join(
        f"{name}: mean recall {each['mean']:.3f}, of all {each['all']:.3f}" for name, each in figures.items()
    )
    return Finding(verdict(figures["experts"]["mean"] > figures["one head"]["mean"]), shown, figures)
