"""Evidence for designs that find what is not normal: handwritten digits of one class, and what is not that."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

import everyformer as ef
from everyformer.data.builtin import digits
from everyformer.designs import Design
from everyformer.evidence.descent import learn
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.measures import area_under_curve
from everyformer.objectives import Rebuilding
from everyformer.specs import spec

_SIDE, _STEPS = 32, 300
_CLASSES = (2, 5, 8)
"""Those that are normal, one after the other."""


def _part(split: str) -> tuple[Tensor, Tensor]:
    """The pictures (B, 1, 8, 8), 0 to 1, and the classes of a part of the digits."""
    rows = digits()[split]
    return torch.from_numpy(np.stack(rows.column("image"))).float()[:, None] / 255, torch.tensor(rows.column("label"))


def _large(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, (_SIDE, _SIDE), mode="bilinear") * 2 - 1


def _patched(pictures: Tensor, others: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures in each of which 3 x 3 pixels are those of another one, from another place, and where."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(0, 6, (len(pictures), 4), generator=generator).tolist()
    which = torch.randint(0, len(others), (len(pictures),), generator=generator).tolist()
    pictures, marked = pictures.clone(), torch.zeros(pictures.shape, dtype=torch.bool)
    for i, ((y, x, v, u), other) in enumerate(zip(places, which, strict=True)):
        pictures[i, :, y : y + 3, x : x + 3] = others[other, :, v : v + 3, u : u + 3]
        marked[i, :, y : y + 3, x : x + 3] = True
    return pictures, marked


def _design(of: str) -> Design:
    """A small FOD; `of` rebuilding alone, or of one of its correlations beside that."""
    design = ef.design(
        "fod-anomaly", image=_SIDE, channels=1, stem=16, convs=(1, 1), levels=(0, 1), inner=(32, 64), depth=2, heads=4
    )
    blocks, kept = "head.heads.*.body.blocks.*", design.get("head.heads.0.body.blocks.0.mixer")
    if of == "both":
        return design
    mixer = {"rebuilding": spec(ef.mixers.Attention, heads=4), "intra": kept.get("first"), "inter": kept.get("second")}[
        of
    ]
    norm = spec(ef.norms.PostNorm)
    return design.set(f"{blocks}.mixer", mixer).set(f"{blocks}.residual", (norm, norm))


@cache
def _areas(of: str) -> dict[str, float]:
    """Areas under the curve, their means over the classes: of pictures of other classes, and of pixels that were exchanged."""
    return _means([_scores(partial(_maps, _learnt(of, normal)), normal) for normal in _CLASSES])


def _means(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in found) / len(found) for name in found[0]}


def _learnt(of: str, normal: int) -> nn.Module:
    """A design that has seen digits of one class."""
    torch.manual_seed(normal)
    pictures, classes = _part("train")
    seen = _large(pictures[classes == normal])
    model, objective = _design(of).build(seed=normal), Rebuilding()

    def batch(step: int) -> dict[str, Tensor]:
        return {"inputs": seen[torch.randint(len(seen), (16,), generator=torch.Generator().manual_seed(step))]}

    return learn(model, objective, batch, _STEPS, lr=1e-3)


@torch.no_grad()
def _maps(model: nn.Module, pictures: Tensor) -> Tensor:
    """The score of each pixel, smoothed as in the official code, on the pictures' own grid."""
    found = torch.cat([model(_large(each)) for each in pictures.split(64)])
    smooth = gaussian_filter(found.numpy(), (0, 0, _SIDE / 64, _SIDE / 64))
    return F.adaptive_avg_pool2d(torch.from_numpy(smooth), 8)


def _distances(normal: int, pictures: Tensor) -> Tensor:
    """The baseline: how far each pixel is from its mean over the digits of a class."""
    train, classes = _part("train")
    return (pictures - train[classes == normal].mean(0)).abs()


def _scores(maps: Callable[[Tensor], Tensor], normal: int) -> dict[str, float]:
    """The areas under the curve of what gives a score to each pixel, on the test part."""
    pictures, classes = _part("test")
    own = pictures[classes == normal]
    pasted, marked = _patched(own, pictures, seed=normal)
    return {
        "pictures": area_under_curve(maps(pictures).amax((1, 2, 3)), classes != normal),
        "pixels": area_under_curve(maps(pasted), marked),
    }


@evidence("fod-anomaly", kind="learns", claim="Finds other digits better than the distance from the mean picture.")
def fod_learns() -> Finding:
    """Digits of one class are seen; the largest score of a picture, and of a pixel, against the distance of pixels."""
    ours = _areas("both")
    theirs = _means([_scores(partial(_distances, normal), normal) for normal in _CLASSES])
    told = f"area under the curve {ours['pictures']:.4f} against {theirs['pictures']:.4f} of the distance"
    holds = ours["pictures"] > theirs["pictures"]
    return Finding(verdict(holds), f"{told}; of pixels {ours['pixels']:.4f}", {"ours": ours, "distance": theirs})


@evidence(
    "fod-anomaly",
    kind="claim",
    claim="Both correlations beside rebuilding are above rebuilding alone, and above either.",
)
def fod_correlations() -> Finding:
    """The same bodies and steps, with attention, one correlation or both; pixels that were exchanged."""
    found = {of: _areas(of) for of in ("both", "rebuilding", "intra", "inter")}
    pixels = {of: each["pixels"] for of, each in found.items()}
    told = ", ".join(f"{area:.4f} {of}" for of, area in pixels.items())
    holds = pixels.pop("both") > max(pixels.values())
    return Finding(verdict(holds), f"area under the curve of pixels {told}", found)
