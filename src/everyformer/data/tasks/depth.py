"""Depth: how far away each pixel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.data import pictures
from everyformer.data.mapped import MapOptions, MapTask
from everyformer.data.pictured import save, sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, task
from everyformer.errors import BadInput
from everyformer.objectives import ScaleInvariant
from everyformer.specs import Spec, spec

NEAREST = 1e-3
"""The least depth that an answer can have."""


@dataclass(kw_only=True)
class Options(MapOptions):
    """The `data` section of depth; the maps are pictures or arrays of numbers, 0 where the depth is not known."""

    unit: float = 1.0
    """What a value of 1 stands for: 0.001 for millimetres into metres."""


@task
class Depth(MapTask):
    """Pictures into the depth of each pixel, in the units of the data."""

    name: ClassVar[str] = "depth"
    metric: ClassVar[str] = "abs_rel"
    better: ClassVar[str] = "min"
    targets: ClassVar[tuple[str, ...]] = ("depth", "distance", "mask")
    Options: ClassVar[type[Where]] = Options

    def decoded(self, value: Any, size: tuple[int, int], name: str) -> np.ndarray:
        """The depth of each pixel, 0 where it is not known."""
        return depth_map(value, size, name) * self.options.unit

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Find the largest depth of the training part, which designs take as the end of their range."""
        self.facts["max_depth"] = float(self.parts["train"][1].max())

    def objective(self, **options: Any) -> Spec[Any]:
        """The scale-invariant distance of logarithms."""
        return spec(ScaleInvariant, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Over all pixels whose depth is known: the mean relative error, the share within a quarter, and more."""
        digest, shown = Digest(), []
        sums: dict[str, float] = {}
        count, every = 0, max(1, self.size(split) // 8)
        top = self.facts["max_depth"]
        for indices, labels, given in self.maps(model, split, batch, 1):
            said = given[:, 0].clamp(min=NEAREST)
            for row, index in enumerate(indices):
                digest.add(self.parts[split][0][index], labels[row])
                own = errors(said[row], labels[row])
                known = int((labels[row] > 0).sum())
                sums = {name: sums.get(name, 0.0) + value * known for name, value in own.items()}
                count += known
                if index % every == 0:
                    maps = (pictures.shaded(each[row].numpy(), top) for each in (labels, said))
                    shown.append({"input": self.strip(split, index, *maps), "delta1": own["delta1"]})
        figures = {name: value / max(count, 1) for name, value in sums.items()}
        figures["rmse"] = figures.pop("squared") ** 0.5
        return Score(figures, self.size(split), str(digest), sorted_examples(shown, "delta1"))

    def baseline(self, split: str) -> dict[str, Any]:
        """The relative error of always answering with the mean map of the training part."""
        train = self.parts["train"][1]
        mean = train.sum(0) / (train > 0).sum(0).clamp(min=1)
        labels = self.parts[split][1]
        found = errors(mean.clamp(min=NEAREST).expand_as(labels), labels)
        return {"name": "the mean map of the training part", self.metric: found[self.metric]}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `depth` of each raw picture, float32 and as large as it, and in a `text` its range."""
        answers = []
        for said in self.mapped(model, inputs):
            depth = said[0, 0].clamp(min=NEAREST).numpy()
            answers.append({"text": f"{depth.min():.3g} to {depth.max():.3g}", "depth": depth})
        return answers

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """NAME.png with the depth in 65,535ths of the largest (that of the training part), NAME_overlay.png to look at."""
        top = self.facts["max_depth"]
        files: dict[str, np.ndarray] = {}
        for name, answer in zip(pictures.names(inputs), answers, strict=True):
            files[name] = (answer["depth"] / top * 65535).clip(0, 65535).astype(np.uint16)
            files[f"{name}_overlay"] = pictures.shaded(answer["depth"], top)
        return save(folder, files)


def depth_map(value: Any, size: tuple[int, int], name: str) -> Float[np.ndarray, "Y X"]:
    """A raw map of depths, a picture or an array, brought to a size."""
    from PIL import Image

    if not isinstance(value, np.ndarray):
        value = np.asarray(pictures.decode(value, name))
    if value.ndim != 2:
        raise BadInput(f"{name} of shape {value.shape} is no map of depths; give one number a pixel")
    if value.shape != size:
        value = Image.fromarray(value.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(value, dtype=np.float32)


def errors(said: Float[Tensor, "..."], truth: Float[Tensor, "..."]) -> dict[str, float]:
    """Mean |y - t| / t, mean (y - t)^2, and the share of max(y/t, t/y) below 1.25, where t is above 0
    (Eigen et al., 2014, section 4.2).
    """
    known = truth > 0
    said, truth = said[known].double(), truth[known].double()
    ratio = torch.maximum(said / truth, truth / said)
    return {
        "abs_rel": float(((said - truth).abs() / truth).mean()),
        "squared": float((said - truth).square().mean()),
        "delta1": float((ratio < 1.25).double().mean()),
    }
