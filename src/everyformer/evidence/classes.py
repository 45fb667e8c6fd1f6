"""Evidence for queries that stand for classes, on handwritten digits at random places of an empty picture."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.patches import NOTHING, Canvases
from everyformer.evidence.runs import logistic_regression
from everyformer.interpret.taps import record

_STEPS, _TESTED, _LEAST = 700, 1000, 3.0
_CELLS, _DELETED = 8, 6
"""Cells on a side, and how many of them are wiped out."""


@cache
def _intr() -> nn.Module:
    """Trained on fresh pictures."""
    model = ef.create(
        "intr", channels=1, classes=10, image=32, stem=8, convs=(1,), width=32, depth=1, decoder_depth=2, heads=4,
        hidden=64, dropout=0.0, seed=0,
    )  # fmt: skip
    return Canvases(1).teach(model, _STEPS, 64)


@evidence(
    "intr", kind="learns", claim="Test accuracy on digits at random places is above logistic regression on pixels."
)
def intr_learns() -> Finding:
    """Logistic regression has seen 4,000 pictures."""
    sizes = {"train": 4000, "valid": 500, "test": _TESTED}
    drawn = {
        name: Canvases(1, seed=seed).draw(count, test=name == "test")
        for seed, (name, count) in enumerate(sizes.items(), start=1)
    }
    baseline = logistic_regression(
        {name: each[0].flatten(1).numpy() for name, each in drawn.items()},
        {name: each[1].numpy() for name, each in drawn.items()},
    )
    pictures, classes, _ = drawn["test"]
    with torch.no_grad():
        ours = float((_intr()(pictures).argmax(-1) == classes).float().mean())
    figures = {"ours": ours, "logistic_regression": baseline}
    return Finding(verdict(ours > baseline), f"{ours:.4f} against {baseline:.4f}", figures)


@evidence(
    "intr",
    kind="claim",
    claim="Where the query of a class looks is what the answer hangs on (section 4): mostly at the digit, and wiping out "
    "what it looks at most lowers the logit more than wiping out other cells.",
)  # fmt: skip
@torch.no_grad()
def intr_is_faithful() -> Finding:
    """What the query of the true class gives to the cells with ink, by their share; and its logit without six cells."""
    model, point = _intr(), "head.body.blocks.1.cross.0.weights"
    pictures, classes, cells = Canvases(1, seed=4).draw(_TESTED, test=True)
    with record(model, point) as seen:
        whole = _of(model(pictures), classes)
    looked = _of(seen[point].mean(1), classes)
    ink = (cells.unflatten(1, (_CELLS, 2, _CELLS, 2)).amin((2, 4)).flatten(1) < NOTHING).float()
    mass, share = float((looked * ink).sum(1).mean()), float(ink.mean())
    random = torch.rand(looked.shape, generator=torch.Generator().manual_seed(0))
    drops = {
        name: float((whole - _of(model(_without(pictures, scores)), classes)).mean())
        for name, scores in (("most looked at", looked), ("at random", random))
    }
    finding = (
        f"{mass:.2f} of what it looks at has ink, of all cells {share:.2f}; without the {_DELETED} cells "
        f"{', '.join(f'{name} {drop:.2f}' for name, drop in drops.items())} of the logit are gone"
    )
    holds = mass > _LEAST * share and drops["most looked at"] > drops["at random"]
    return Finding(verdict(holds), finding, {"mass": mass, "share": share, "drops": drops})


def _of(said: Float[Tensor, "B V ..."], classes: Int[Tensor, " B"]) -> Float[Tensor, "B ..."]:
    """What is said of the class of each picture."""
    return said[torch.arange(len(said)), classes]


def _without(pictures: Float[Tensor, "B 1 Y X"], scores: Float[Tensor, "B M"]) -> Float[Tensor, "B 1 Y X"]:
    """Pictures whose cells of the highest scores are empty."""
    gone = torch.zeros_like(scores, dtype=torch.bool)
    gone.scatter_(1, scores.topk(_DELETED).indices, True)
    side = pictures.shape[-1] // _CELLS
    mask = gone.view(-1, 1, _CELLS, _CELLS).repeat_interleave(side, 2).repeat_interleave(side, 3)
    return pictures.masked_fill(mask, 0.0)
