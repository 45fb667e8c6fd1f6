"""Object discovery: which pixels belong together, learnt without a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from everyformer.data import pictures
from everyformer.data.mapped import MapOptions, MapTask, write_masks
from everyformer.data.pictured import sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, task
from everyformer.errors import BadInput
from everyformer.objectives import RebuiltCells, SelfTaughtSlots
from everyformer.specs import Spec, spec

NOTHING = -1
"""The number of a pixel that shows no thing."""


@task
class ObjectDiscovery(MapTask):
    """Pictures into parts, one for each thing. The maps say which thing each pixel shows, from 1 on, 0 for none; they are for
    the score alone.
    """

    name: ClassVar[str] = "object-discovery"
    metric: ClassVar[str] = "mbo"
    targets: ClassVar[tuple[str, ...]] = ("things", "mask", "instances")
    outside: ClassVar[float] = NOTHING
    Options: ClassVar[type[Where]] = MapOptions

    @classmethod
    def read(cls, options: Any) -> Any:
        """Read pictures and maps; windows of a picture are refused."""
        if options.tile:
            raise BadInput(
                f"data.tile={options.tile}, and the parts of one window are not those of the next; leave it out, or give "
                "data.size=[HEIGHT, WIDTH]"
            )
        return super().read(options)

    def decoded(self, value: Any, size: tuple[int, int], name: str) -> np.ndarray:
        """The number of the thing that each pixel shows, `NOTHING` where there is none."""
        return pictures.to_numbers(pictures.decode(value, name), size, name).astype(np.int64) + NOTHING

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Refuse a part that shows nothing, of which nothing can be told."""
        for split, (_, things) in self.parts.items():
            if (things == NOTHING).all():
                raise BadInput(
                    f"the maps of {rows[split].where} show no thing; 0 is none, and the things are 1, 2, ..."
                )

    def objective(self, **options: Any) -> Spec[Any]:
        """How well cells are rebuilt from slots; with `teacher=RUN` also where that run saw things."""
        return spec(SelfTaughtSlots if options.get("teacher") else RebuiltCells, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """The means of what `agreement` says, each over the pictures for which it says it: `mbo` and `ari`."""
        digest, shown, found = Digest(), [], []
        every = max(1, self.size(split) // 8)
        for indices, truth, given in self.maps(model, split, batch, 16):
            parts = given.argmax(1)
            for row, index in enumerate(indices):
                digest.add(self.parts[split][0][index], truth[row])
                found.append(agreement(parts[row], truth[row]))
                if index % every == 0 and "mbo" in found[-1]:
                    drawn = (pictures.coloured(each.numpy()) for each in (truth[row] - NOTHING, parts[row]))
                    shown.append({"input": self.strip(split, index, *drawn), "mbo": found[-1]["mbo"]})
        return Score(means(found), self.size(split), str(digest), sorted_examples(shown, "mbo"))

    def baseline(self, split: str) -> dict[str, Any]:
        """The overlap of upright stripes, one more than the training part has things in a picture at most."""
        things = self.parts[split][1]
        count, width = int(self.parts["train"][1].max()) + 2, things.shape[2]
        stripes = (torch.arange(width) * count // width).expand(things.shape[1:])
        found = means([agreement(stripes, each) for each in things])
        return {"name": f"{count} upright stripes", self.metric: found[self.metric]}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `mask` of each raw picture, uint8 and as large as it, with the number of each pixel's part; in a `text` how
        much of the picture each has.
        """
        answers = []
        for said in self.mapped(model, inputs):
            mask = said[0].argmax(0)
            share = mask.flatten().bincount(minlength=said.shape[1]) / mask.numel()
            text = ", ".join(f"{called(i)} {share[i]:.0%}" for i in share.argsort(descending=True).tolist() if share[i])
            answers.append({"text": text, "mask": mask.numpy().astype(np.uint8)})
        return answers

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """NAME.png with the number of each pixel's part, NAME_overlay.png to look at, and masks.json with the region of each
        part in COCO's format; gives the files.
        """
        count = 1 + max(int(each["mask"].max()) for each in answers)
        return write_masks(inputs, answers, {i: called(i) for i in range(count)}, folder)


def called(number: int) -> str:
    """The name of a part."""
    return f"part {number}"


def agreement(parts: Int[Tensor, "Y X"], things: Int[Tensor, "Y X"]) -> dict[str, float]:
    """What parts of a picture have in common with its things: `mbo`, the largest IoU of each thing with a part, the mean over
    the things, where there is one; `ari`, the adjusted Rand index on the pixels of things, where there are several.
    """
    from sklearn.metrics import adjusted_rand_score

    each = [things == number for number in things[things != NOTHING].unique()]
    found = {}
    if each:
        shares = [max(_iou(parts == part, thing) for part in parts.unique()) for thing in each]
        found["mbo"] = sum(shares) / len(shares)
    if len(each) > 1:
        there = things != NOTHING
        found["ari"] = float(adjusted_rand_score(things[there], parts[there]))
    return found


def means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over those that have it."""
    names = sorted({name for each in found for name in each}, reverse=True)
    own = {name: [each[name] for each in found if name in each] for name in names}
    return {name: sum(values) / len(values) for name, values in own.items()}


def _iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())
