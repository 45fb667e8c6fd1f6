"""What each pixel is, with a figure and a class of the whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.convolution import resized
from everyformer.objectives.base import IGNORED, LABELS, Loss, noted
from everyformer.objectives.classes import check_classes
from everyformer.objectives.pixels import DeepPixelClasses
from everyformer.registry import part

FIGURE, STAGE, TRAITS = "figure", "stage", "traits"
"""The keys of a batch that only this objective sees, and the note that it compares them with."""


@part("objectives")
class PixelsAndTraits(DeepPixelClasses):
    """Cross entropy of each pixel with a `share` of that of maps of earlier levels; the squared difference of the `figure` (B,)
    of a sample from what the head notes first among its `traits`, and the cross entropy of its `stage` (B,) by the rest.

    `weights` are those of the three, `share` is that of the mean of the maps. Counted by samples.
    """

    def __init__(
        self, *, weights: tuple[float, float, float] = (1.0, 1.0, 1.0), share: float = 1.6, smoothing: float = 0.0
    ) -> None:
        super().__init__(share=share, smoothing=smoothing)
        self.weights = weights

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The losses summed over the samples."""
        shown = {name: value for name, value in batch.items() if name not in (FIGURE, STAGE)}
        otherwise = "the head notes no maps of earlier levels or no traits; use heads.DeepMaps around heads.Beside"
        said, notes = noted(model, shown, "maps", TRAITS, otherwise=otherwise)
        pixels = self.each(said, batch[LABELS])
        beside = torch.stack([self.each(maps, batch[LABELS]) for maps in notes["maps"]]).mean(0)
        figure, logits = notes[TRAITS].float().split([1, notes[TRAITS].shape[1] - 1], 1)
        check_classes(batch[STAGE], logits.shape[1])
        off = (figure[:, 0] - batch[FIGURE]).square()
        stage = F.cross_entropy(logits, batch[STAGE], reduction="none", ignore_index=IGNORED)
        first, second, third = self.weights
        total = first * (pixels + self.share * beside) + second * off + third * stage
        return Loss(total.sum(), torch.tensor(len(total), device=total.device))

    def each(self, said: Tensor, labels: Tensor) -> Tensor:
        """The mean over the pixels of each sample."""
        logits = resized(said.float(), labels.shape[1:])
        check_classes(labels, logits.shape[1])
        entropy = F.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.smoothing, ignore_index=IGNORED
        )  # fmt: skip
        return entropy.sum((1, 2)) / (labels != IGNORED).sum((1, 2)).clamp(min=1)
