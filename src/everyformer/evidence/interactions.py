"""Evidence for designs that find things and what they are to each other at once, on rendered rooms."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.boxes import centred, corners, overlaps
from everyformer.data.scenes import KINDS, Scene, render
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.relations import RELATIONS, related
from everyformer.evidence.slots import compared
from everyformer.objectives import Interactions
from everyformer.objectives.base import IGNORED

_SIDE, _MOST, _SAID, _STEPS, _BATCH = 48, 5, 10, 1500, 16
_TRAIN, _TEST = range(40_000, 40_800), range(43_000, 43_200)
_KINDS, _NAMES = len(KINDS), len(RELATIONS) - 1

Triple = tuple[int, int, int]
"""The kinds of a subject and of an object, and what that is to this."""


@cache
def _scenes(seeds: range) -> list[Scene]:
    return [render(seed, side=_SIDE, most=_MOST) for seed in seeds]


@cache
def _told(seeds: range) -> tuple[Float[Tensor, "B 3 Y X"], Float[Tensor, "B T E"]]:
    """Pictures, and their things as `objectives.Interactions` has them."""
    scenes = _scenes(seeds)
    labels = torch.full((len(scenes), _MOST, 5 + _MOST), float(IGNORED))
    for row, scene in zip(labels, scenes, strict=True):
        count = len(scene.kinds)
        row[:, 1:5] = 0.5
        row[:count, 0] = torch.tensor(scene.kinds)
        row[:count, 1:5] = centred(torch.from_numpy(scene.boxes) / _SIDE)
        for subject, thing, name in related(scene):
            if name:
                row[subject, 5 + thing] = name - 1
    pictures = torch.from_numpy(np.stack([each.picture for each in scenes])).permute(0, 3, 1, 2).float()
    return (pictures - 128) / 64, labels


@cache
def _trained(guidance: float) -> nn.Module:
    """The design, with that much of the names of things."""
    model = ef.create(
        "agglomerative-transformer", classes=_KINDS, relations=_NAMES, image=_SIDE, stem=16, convs=(1,), width=64, heads=4,
        hidden=128, stage_depth=1, groups=(16, 8), decoder_depth=2, queries=20, name_width=16, dropout=0.0, seed=0,
    )  # fmt: skip
    pictures, labels = _told(_TRAIN)
    objective = Interactions(guidance=guidance)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=generator)
        return {"inputs": pictures[chosen], "labels": labels[chosen]}

    return learn(model, objective, batch, _STEPS, lr=1e-3, rate=warmed(50), weight_decay=1e-4, clip=1.0)


def _said(
    answer: Float[Tensor, "N E"],
) -> tuple[Int[Tensor, "K 3"], Float[Tensor, "K 2 4"]]:
    """The likeliest triples that the queries say, and the boxes of both things."""
    relations, *ends = answer.split((_NAMES + 1, _KINDS + 5, _KINDS + 5), -1)
    likely, names = relations.softmax(-1)[:, :-1].max(-1)
    kinds, boxes = [], []
    for each in ends:
        share, kind = each[:, :-4].softmax(-1)[:, :-1].max(-1)
        likely = likely * share
        kinds.append(kind)
        boxes.append(corners(each[:, -4:]))
    best = likely.topk(min(_SAID, len(likely))).indices
    return torch.stack((*kinds, names), 1)[best], torch.stack(boxes, 1)[best]


def _true(labels: Float[Tensor, "T E"]) -> tuple[Int[Tensor, "P 3"], Float[Tensor, "P 2 4"]]:
    """The triples of a room, and the boxes of both things."""
    subjects, objects = (labels[:, 5:] != IGNORED).nonzero(as_tuple=True)
    triples = torch.stack((labels[subjects, 0], labels[objects, 0], labels[subjects, 5 + objects]), 1).long()
    return triples, corners(torch.stack((labels[subjects, 1:5], labels[objects, 1:5]), 1))


def _recall(said: list[tuple[Tensor, Tensor]]) -> float:
    """Of the triples of other rooms the share that is said with both boxes at an IoU of a half or more."""
    found = count = 0
    for (triples, boxes), row in zip(said, _told(_TEST)[1], strict=True):
        wanted, places = _true(row)
        same = (wanted[:, None] == triples).all(-1)
        near = (overlaps(places[:, None], boxes)[0] >= 0.5).all(-1)
        found += int((same & near).any(1).sum())
        count += len(wanted)
    return found / count


@torch.no_grad()
def _figures(model: nn.Module) -> dict[str, float]:
    """How many triples of other rooms it says, and what its groups have in common with their things."""
    pictures, _ = _told(_TEST)
    answers, groups = [], []
    for each in pictures.split(_BATCH):
        answers += [_said(row) for row in model(each)]
        tokens = model.features(each)  # type: ignore[operator]
        groups.append(tokens.origin.unflatten(1, tokens.source.grid).float())
    maps = F.interpolate(torch.cat(groups)[:, None], (_SIDE, _SIDE))[:, 0].long()
    things = torch.from_numpy(np.stack([each.things for each in _scenes(_TEST)]))
    return {"recall": _recall(answers), "overlap": compared(maps, things)["mbo"]}


def _commonest() -> float:
    """The recall of the triples that most rooms have, each at the mean of its boxes."""
    counts: Counter[Triple] = Counter()
    places: dict[Triple, list[Tensor]] = {}
    for row in _told(_TRAIN)[1]:
        for triple, boxes in zip(*_true(row), strict=True):
            key: Triple = tuple(triple.tolist())  # type: ignore[assignment]
            counts[key] += 1
            places.setdefault(key, []).append(boxes)
    best = [key for key, _ in islice(counts.most_common(), _SAID)]
    said = torch.tensor(best), torch.stack([torch.stack(places[key]).mean(0) for key in best])
    return _recall([said] * len(_TEST))


@evidence(
    "agglomerative-transformer", kind="learns", claim="It says more of a room's relations than the commonest would be."
)
def agglomerative_learns() -> Finding:
    """Ten triples a room, boxes at an IoU of a half."""
    ours, baseline = _figures(_trained(1.0)), _commonest()
    finding = f"{ours['recall']:.4f} of all triples against {baseline:.4f}"
    return Finding(verdict(ours["recall"] > baseline), finding, {**ours, "commonest": baseline})


@evidence(
    "agglomerative-transformer",
    kind="claim",
    claim="Guided by the names of things, a group has more of a whole thing (abstract).",
)
def agglomerative_guidance() -> Finding:
    """The groups of both stages on things of other rooms, with the names of things in the loss and without."""
    figures = {"guided": _figures(_trained(1.0)), "unguided": _figures(_trained(0.0))}
    shown = "; ".join(
        f"{name}: overlap {each['overlap']:.3f}, recall {each['recall']:.4f}" for name, each in figures.items()
    )
    return Finding(verdict(figures["guided"]["overlap"] > figures["unguided"]["overlap"]), shown, dict(figures))
