"""Evidence for pixel decoders that choose how many blocks a picture needs, on CamVid."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.exits import Batch, fit, gated, leaving, measured
from everyformer.convolution import resized
from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained
from everyformer.evidence.segmentation import SETS
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.recipe import load_recipe
from everyformer.specs import to_plain
from everyformer.training.designing import design_for

_STEPS, _BLOCKS, _PRICES = 400, 4, (0.0, 0.001, 0.002, 0.004, 0.008)


def right(model: nn.Module, batch: Batch) -> Float[Tensor, " B"]:
    """The share of the pixels of each picture that are answered rightly."""
    labels = batch[LABELS]
    said = resized(model(batch["inputs"]), labels.shape[1:]).argmax(1)
    real = labels != IGNORED
    return ((said == labels) & real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)


def _batches(task: Any, split: str, most: int, size: int = 16) -> Iterator[Batch]:
    rows = list(range(min(task.size(split), most)))
    return (task.batch(split, rows[i : i + size]) for i in range(0, len(rows), size))


@torch.no_grad()
def _seconds(model: nn.Module, pictures: Float[Tensor, "B C Y X"]) -> float:
    """Time in the body that may be left, picture by picture, the least of three rounds."""
    body, spent = gated(model), [0.0]
    begun: list[float] = []
    hooks = [
        body.register_forward_pre_hook(lambda module, given: begun.append(time.process_time())),
        body.register_forward_hook(lambda module, given, after: spent.append(time.process_time() - begun.pop())),
    ]
    rounds = []
    for _ in range(3):
        spent.clear()
        for picture in pictures:
            model(picture[None])
        rounds.append(sum(spent))
    for hook in hooks:
        hook.remove()
    return min(rounds)


@cache
def _measured() -> dict[str, Any]:
    """A small Mask2Former trained with exits, its gate fitted on the training part at the highest price of a block that costs
    less than half a point of the pixels of the validation part; then all blocks, the fewest and the chosen ones on the
    test part.
    """
    design = {**SETS["mask2former"], "pixel_depth": _BLOCKS}
    (options,) = to_plain(design_for(design, {"classes": 11}).get("head.pixels.body")).values()
    edit = {"swap": "head.pixels.body", "with": {"backbones.ChosenDepth": {**options, "least": 1}}}
    overrides = f"training.steps={_STEPS}", "training.seconds=null", "objective.of=binary masks"
    task = find_task("segmentation").open(**load_recipe("camvid").data)
    with trained("camvid", *overrides, design={**design, "edits": [edit]}) as run, torch.no_grad():
        model = run.model.eval()
        body = gated(model)
        valid = [*_batches(task, "valid", 160)]

        def quality() -> float:
            return float(torch.cat([right(model, batch) for batch in valid]).mean())

        with leaving(body, _BLOCKS):
            whole = quality()
        seen, after_each = measured(model, _batches(task, "train", 160), right)
        found = {}
        for price in _PRICES:
            fit(body, seen, after_each, price)
            found[price] = quality()
        price = max(price for price in _PRICES if found[price] >= min(whole, max(found.values())) - 0.005)
        fit(body, seen, after_each, price)

        pictures = torch.cat([batch["inputs"] for batch in _batches(task, "test", 48)])
        figures: dict[str, Any] = {"price": price, "commonest": run.result["baseline"]["miou"]}
        for name, after in (("all", _BLOCKS), ("fewest", 1), ("chosen", None)):
            with leaving(body, after):
                figures[name] = task.evaluate(model, "test").metrics["miou"]
                figures[f"seconds, {name}"] = _seconds(model, pictures)
        return figures


@evidence(
    "eco-m2f", kind="learns", claim="With blocks chosen, CamVid gives three times the mIoU of the commonest class."
)
def eco_m2f_learns() -> Finding:
    """Trained for a minute with exits."""
    found = _measured()
    held = found["chosen"] > 3 * found["commonest"]
    return Finding(verdict(held), f"mIoU {found['chosen']:.4f} against {found['commonest']:.4f}", found)


@evidence(
    "eco-m2f", kind="claim", claim="Chosen blocks take less time in the encoder than all, within a point of mIoU."
)
def eco_m2f_saves() -> Finding:
    """Real time on one thread, one picture after the other, the gate's own among it."""
    found = _measured()
    share = found["seconds, chosen"] / found["seconds, all"]
    held = share < 0.9 and found["chosen"] >= found["all"] - 0.01
    finding = f"{share:.0%} of the time at mIoU {found['chosen']:.4f}; all blocks {found['all']:.4f}, one {found['fewest']:.4f}"
    return Finding(verdict(held), finding, found)
