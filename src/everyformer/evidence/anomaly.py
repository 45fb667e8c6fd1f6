"""Evidence for designs that find what is not normal: handwritten digits of one class, and what is not that."""

from __future__ import annotations

import dataclasses
from functools import cache
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from everyformer.data import find_task
from everyformer.data.task import used
from everyformer.data.tasks.anomaly import AnomalyDetection, area_under_curve
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained
from everyformer.recipe import load_recipe
from everyformer.training import train
from everyformer.training.compare import variants

_CLASSES = ("2", "5", "8")
"""Those that are normal, one after the other."""
_SIDE = 12
"""How large a part of a digit is that is exchanged."""


def _patched(pictures: Tensor, others: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures in each of which a square is that of another one, from another place, and where."""
    generator = torch.Generator().manual_seed(seed)
    room = pictures.shape[2] - _SIDE + 1
    places = torch.randint(0, room, (len(pictures), 4), generator=generator).tolist()
    which = torch.randint(0, len(others), (len(pictures),), generator=generator).tolist()
    pictures, marked = pictures.clone(), torch.zeros(pictures.shape, dtype=torch.bool)
    for i, ((y, x, v, u), other) in enumerate(zip(places, which, strict=True)):
        pictures[i, :, y : y + _SIDE, x : x + _SIDE] = others[other, :, v : v + _SIDE, u : u + _SIDE]
        marked[i, :, y : y + _SIDE, x : x + _SIDE] = True
    return pictures, marked


@cache
def _body() -> TemporaryDirectory[str]:
    """A run in which the recipe's residual network has learnt to tell gray natural pictures apart, as the paper's has; the folder
    is gone with the process.
    """
    sizes = {name: load_recipe("anomalies").design[name] for name in ("stem", "convs")}
    design = {"system": "intr", **sizes, "width": 64, "depth": 0, "decoder_depth": 1, "heads": 4, "hidden": 128}
    folder = TemporaryDirectory()
    recipe = load_recipe("cifar10", ("data.channels=1", "training.epochs=3", "training.threads=1"))
    train(dataclasses.replace(recipe, design=design), folder.name, progress=False)
    return folder


@cache
def _areas(name: str) -> dict[str, float]:
    """Of one of the designs of the recipe, its body trained before, the areas under the curve, their means over the classes: of
    pictures of other classes, and of pixels that were exchanged; and that of the distance from the mean picture.
    """
    design, found = {**variants(load_recipe("anomalies"))[name].design, "wide": 1}, []
    for normal in _CLASSES:
        options = (f"data.normal=['{normal}']", "training.seconds=null", f"training.start={_body().name}")
        with trained("anomalies", *options, design=design) as run:
            task = find_task(run.recipe.task).open(**run.recipe.data)
            assert isinstance(task, AnomalyDetection)
            areas = {"pictures": run.result["metrics"]["auroc"], "pixels": _pixels(run.model, task, int(normal))}
            found.append({**areas, "distance": run.result["baseline"]["auroc"]})
    return {key: mean(each[key] for each in found) for key in found[0]}


def _pixels(model: nn.Module, task: AnomalyDetection, seed: int) -> float:
    """How well the pixels that were exchanged in normal pictures are told from the others."""
    pictures, labels = task.parts["test"]
    pasted, marked = _patched(pictures[labels == 0], pictures, seed)
    with used(model):
        said = model(task.prepare([each.numpy() for each in pasted[:, 0]])["inputs"])
    return area_under_curve(task.heat(said, pasted.shape[2:]), marked)


@evidence("fod-anomaly", kind="learns", claim="Finds other digits better than the distance from the mean picture.")
def fod_learns() -> Finding:
    """Digits of one class are seen; the largest score of a picture, against the distance of pixels."""
    areas = _areas("fod")
    told = f"area under the curve {areas['pictures']:.4f} against {areas['distance']:.4f} of the distance"
    return Finding(
        verdict(areas["pictures"] > areas["distance"]), f"{told}; of pixels {areas['pixels']:.4f}", dict(areas)
    )


@evidence(
    "fod-anomaly",
    kind="claim",
    claim="Both correlations beside rebuilding are above rebuilding alone, and above either.",
)
def fod_correlations() -> Finding:
    """The same bodies and steps, with attention, one correlation or both; pixels that were exchanged."""
    found = {name: _areas(name) for name in ("fod", "rebuilding", "intra", "inter")}
    pixels = {name: each["pixels"] for name, each in found.items()}
    told = ", ".join(f"{area:.4f} {name}" for name, area in pixels.items())
    holds = pixels.pop("fod") > max(pixels.values())
    return Finding(verdict(holds), f"area under the curve of pixels {told}", found)
