"""Classes: cross entropy with label smoothing, mixup and cutmix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.registry import part


@part("objectives")
class Classification(Objective):
    """Cross entropy of one class a sample, with label smoothing (Szegedy et al., 2016, section 7).

    In training, `mixup` (Zhang et al., 2018) and `cutmix` (Yun et al., 2019) blend each sample with another of its batch:
    the share is drawn from Beta(a, a), once a batch. Where both are set one of them is drawn, each half the time.
    """

    def __init__(self, *, smoothing: float = 0.0, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        super().__init__()
        self.smoothing, self.mixup, self.cutmix = smoothing, mixup, cutmix

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        labels = batch[LABELS]
        if not (self.training and (self.mixup or self.cutmix)):
            logits = answer(model, batch).float()
            check_classes(labels, logits.shape[-1])
            return _loss(labels, class_loss(logits, labels, self.smoothing))
        if "sizes" in batch:
            raise BadInput(
                "mixup and cutmix blend pictures of one size; set objective.mixup=0 objective.cutmix=0, or data.fit=crop"
            )
        inputs, other, share = self.blend(batch["inputs"])
        logits = answer(model, {**batch, "inputs": inputs}).float()
        check_classes(labels, logits.shape[-1])
        own, others = (class_loss(logits, given, self.smoothing) for given in (labels, labels[other]))
        return _loss(labels, share * own + (1 - share) * others)

    def blend(self, inputs: Float[Tensor, "B ..."]) -> tuple[Tensor, Tensor, float]:
        """The blended inputs, with whom each was blended, and the share that is its own."""
        if not inputs.is_floating_point():
            raise BadInput("mixup and cutmix blend pictures and spectrograms; set objective.mixup=0 objective.cutmix=0")
        other = torch.randperm(len(inputs)).to(inputs.device)
        cut = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < 0.5))
        strength = self.cutmix if cut else self.mixup
        share = float(torch.distributions.Beta(strength, strength).sample())
        if not cut:
            return share * inputs + (1 - share) * inputs[other], other, share
        height, width = inputs.shape[-2:]
        side = (1 - share) ** 0.5
        row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, bottom = _around(row, side * height, height)
        left, right = _around(column, side * width, width)
        blended = inputs.clone()
        blended[..., top:bottom, left:right] = inputs[other][..., top:bottom, left:right]
        return blended, other, 1 - (bottom - top) * (right - left) / (height * width)


def class_loss(logits: Float[Tensor, "B classes"], labels: Int[Tensor, " B"], smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each sample, (B,); 0 where the label is -100."""
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing, ignore_index=IGNORED)


def check_classes(labels: Int[Tensor, "..."], classes: int) -> None:
    """Refuse labels outside the classes, on the CPU, where looking costs little."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise BadInput(
            f"label {int(labels[wrong][0])}, and the model answers with {classes} classes (0 to {classes - 1}); "
            "build the design with more classes or correct the label"
        )


def _loss(labels: Tensor, losses: Tensor) -> Loss:
    return Loss(losses.sum(), (labels != IGNORED).sum())


def _around(middle: int, length: float, limit: int) -> tuple[int, int]:
    return max(0, round(middle - length / 2)), min(limit, round(middle + length / 2))
