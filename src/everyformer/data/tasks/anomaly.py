"""Anomaly detection: how far a picture, and each of its pixels, is from what is normal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.data import pictures
from everyformer.data.mapped import write_masks
from everyformer.data.moves import Moves
from everyformer.data.pictured import PictureOptions, PictureTask, sorted_examples
from everyformer.data.sources import Rows, Where
from everyformer.data.splits import divide
from everyformer.data.task import Digest, Score, affordable, task, used, write
from everyformer.errors import BadInput, DoesNotFit, EveryformerError, UnknownName
from everyformer.objectives import Rebuilding
from everyformer.objectives.base import LABELS
from everyformer.specs import Spec, spec


@dataclass(kw_only=True)
class Options(PictureOptions):
    """The `data` section of anomaly detection: pictures with classes, a folder for each."""

    normal: list[str] | None = None
    """The classes that are normal: what is trained on, all others left out; may be left out where the training part has one."""
    smooth: float = 1 / 64
    """The deviation of the Gaussian that scores of pixels are smoothed by, as a share of the height."""
    alarms: float = 0.01
    """In use, which share of normal pictures like those of the validation part may have pixels that are told as anomalies."""


@task
class AnomalyDetection(PictureTask):
    """Pictures into how far they are from what is normal; only what is normal is trained on."""

    name: ClassVar[str] = "anomaly-detection"
    metric: ClassVar[str] = "auroc"
    watched: ClassVar[tuple[str, str]] = ("level", "min")
    targets: ClassVar[tuple[str, ...]] = ("label", "labels", "class", "target")
    Options: ClassVar[type[Where]] = Options

    @classmethod
    def divided(cls, rows: dict[str, Rows], options: Any) -> dict[str, Rows]:
        """The rows of all parts, those of the training part that are not normal left out."""
        column = rows["train"].pick(options.target, cls.targets, "target")
        parts = divide(rows, options, column)
        named = classes_of(parts["train"], column)
        normal = _normal(options, named, parts["train"].where)
        return {**parts, "train": parts["train"].take([i for i, name in enumerate(named) if name in normal])}

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Find what is normal."""
        column = rows["train"].pick(self.options.target, self.targets, "target")
        self.state["normal"] = sorted(set(classes_of(rows["train"], column)))

    def targets_of(self, rows: Rows, sizes: Sequence[tuple[int, int]], size: Any) -> Tensor:
        """0 for what is normal and 1 for what is not (B,)."""
        named = classes_of(rows, rows.pick(self.options.target, self.targets, "target"))
        return torch.tensor([int(name not in self.state["normal"]) for name in named])

    def check(self, rows: Mapping[str, Rows]) -> None:
        """Refuse a part that has nothing normal, and a test part that has nothing else."""
        for split, (_, labels) in self.parts.items():
            if labels.min() == 1 or (split == "test" and labels.max() == 0):
                kind = "normal" if labels[0] == 0 else "not normal"
                raise BadInput(f"all of {rows[split].where} ('{split}') is {kind}; give pictures of both kinds")

    def moved(self, moves: Moves, targets: Tensor) -> Tensor:
        """As they are: a window of a normal picture is normal."""
        return targets

    def objective(self, **options: Any) -> Spec[Any]:
        """How badly normal pictures are rebuilt."""
        return spec(Rebuilding, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """The area under the ROC curve of the largest score of each picture, where a part has both kinds; `level`, the mean
        score of the normal ones.
        """
        digest, shown = Digest(), dict[int, Tensor]()
        scores, every = torch.empty(self.size(split)), max(1, self.size(split) // 8)
        size = self.parts[split][0].shape[2:] if self.size(split) else (1, 1)
        for indices, tensors, given in self.answers(model, split, affordable(batch, size[0] * size[1])):
            heat = self.heat(given, (size[0], size[1]))
            scores[indices] = largest(heat)
            for row, index in enumerate(indices):
                digest.add(self.parts[split][0][index], int(tensors[LABELS][row]))
                if index % every == 0:
                    shown[index] = heat[row].clone()
        labels = self.parts[split][1]
        figures = {"level": float(scores[labels == 0].double().mean())}
        if labels.min() < labels.max():
            figures["auroc"] = area_under_curve(scores, labels)
        top, examples = float(scores.max()), []
        for index, heat in shown.items():
            mark, score = int(labels[index]), scores[index]
            others = scores[labels != mark]
            share = ((others < score) if mark else (others > score)).double().sum() / max(len(others), 1)
            told = {"expected": ("normal", "anomaly")[mark], "score": float(score), "told apart from": float(share)}
            examples.append({"input": self.strip(split, index, lighter(heat.numpy(), top)), **told})
        return Score(figures, self.size(split), str(digest), sorted_examples(examples, "told apart from"))

    def settle(self, model: nn.Module) -> bool:
        """Find the score above which a pixel is no longer normal: all but `alarms` of the normal pictures stay below."""
        split = "valid" if self.size("valid") else "train"
        size = self.parts[split][0].shape[2:]
        scores = [
            largest(self.heat(given, (size[0], size[1])))[tensors[LABELS] == 0]
            for _, tensors, given in self.answers(model, split, affordable(256, size[0] * size[1]))
        ]
        self.state["limit"] = float(torch.cat(scores).double().quantile(1 - self.options.alarms))
        return True

    def baseline(self, split: str) -> dict[str, Any]:
        """The area of the distance of each pixel from its mean over the training part."""
        mean = self.parts["train"][0].double().mean(0)
        found, labels = self.parts[split]
        distances = (found.double() - mean).abs().mean(1, keepdim=True).float()
        scores = largest(self.heat(distances, (found.shape[2], found.shape[3])))
        return {"name": "the distance from the mean picture", self.metric: area_under_curve(scores, labels)}

    def heat(self, given: Float[Tensor, "B 1 y x"], size: tuple[int, int]) -> Float[Tensor, "B Y X"]:
        """A model's scores of the pixels of pictures of that size, smoothed."""
        from scipy.ndimage import gaussian_filter

        if given.ndim != 4 or given.shape[1] != 1:
            raise DoesNotFit(
                f"the model answers with {tuple(given.shape)}; expected a score for each pixel, (B, 1, Y, X): take a design "
                "of anomaly-detection",
                "head",
            )
        fine = resized(given, size)[:, 0].numpy()
        deviation = self.options.smooth * size[0]
        return torch.from_numpy(gaussian_filter(fine, (0, deviation, deviation)))

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The `score` of each raw picture, and the `heat` of its pixels, float32 and as large as it: the higher, the further
        from what is normal; and its `mask`, uint8, 1 where that is further than pixels of normal pictures are.
        """
        if "limit" not in self.state:
            raise EveryformerError(
                "above which score a pixel is an anomaly is found when training ends; train to the end, or settle the task"
            )
        answers = []
        with used(model) as device:
            for given in inputs:
                picture = pictures.decode(given)
                cells = self.prepare([picture])["inputs"]
                said = model(cells.to(device)).float().cpu()
                heat = self.heat(said, (picture.height, picture.width))
                mask = heat[0] > self.state["limit"]
                found = f"anomaly in {mask.double().mean():.1%}" if mask.any() else "normal"
                score = float(largest(heat))
                answers.append({
                    "text": f"{found}, score {score:.4g}", "score": score, "heat": heat[0].numpy(),
                    "mask": mask.numpy().astype(np.uint8),
                })  # fmt: skip
        return answers

    def write(self, inputs: Sequence[Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
        """scores.json; masks.json with the region of each anomaly in COCO's format; NAME.png with 1 where it is and
        NAME_overlay.png to look at, the lighter the further from what is normal; gives the files.
        """
        named = zip(pictures.files(inputs), answers, strict=True)
        scores = [{"file_name": name, "score": answer["score"]} for name, answer in named]
        write(folder / "scores.json", json.dumps(scores, indent=1) + "\n")
        top = max(float(each["heat"].max()) for each in answers)
        called = {1: "anomaly"}
        masks = write_masks(inputs, answers, called, folder, lambda answer: lighter(answer["heat"], top))
        return ["scores.json", *masks]


def classes_of(rows: Rows, column: str) -> list[str]:
    """The class of each row by name."""
    names = rows.classes.get(column)
    return [str(names[each] if names and isinstance(each, int) else each) for each in rows.column(column)]


def largest(heat: Float[Tensor, "B Y X"]) -> Float[Tensor, " B"]:
    """The score of a picture is that of its worst pixel."""
    return heat.flatten(1).amax(1)


def lighter(heat: Float[np.ndarray, "Y X"], top: float) -> np.ndarray:
    """Scores of pixels as a picture, the lighter the higher, up to `top`."""
    return pictures.shaded(top - heat, top)


def area_under_curve(scores: Tensor, marked: Tensor) -> float:
    """The chance that what is marked has a higher score than what is not (AUROC)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(marked.flatten().numpy(), scores.flatten().numpy()))


def _normal(options: Any, named: Sequence[str], where: str) -> set[str]:
    known = sorted(set(named))
    if options.normal is None and len(known) > 1:
        raise BadInput(f"{where} has the classes {', '.join(known)}; say which are normal: data.normal=[{known[0]}]")
    for name in options.normal or ():
        if name not in known:
            raise UnknownName(f"class in {where} (data.normal)", name, known)
    return set(options.normal or known)
