"""What each pixel is: cross entropy, and how much of each class is covered."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.convolution import resized
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer, noted
from everyformer.objectives.classes import check_classes
from everyformer.registry import part


@part("objectives")
class PixelClasses(Objective):
    """Cross entropy of each pixel, the answer resized to the labels; `dice` is the share of soft Dice in the loss
    (Milletari et al., V-Net, 2016, section 3; half in Chen et al., TransUNet, 2021). Counted by pixels.
    """

    def __init__(self, *, dice: float = 0.0, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dice <= 1:
            raise ValueError(f"dice is a share of the loss, 0 to 1; given {dice}")
        self.dice, self.smoothing = dice, smoothing

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the pixels."""
        return self.apart(answer(model, batch), batch[LABELS])

    def apart(self, said: Float[Tensor, "B V y x"], labels: Int[Tensor, "B Y X"]) -> Loss:
        """The loss of an answer on any grid."""
        logits = resized(said.float(), labels.shape[1:])
        check_classes(labels, logits.shape[1])
        total = F.cross_entropy(
            logits, labels, reduction="sum", label_smoothing=self.smoothing, ignore_index=IGNORED
        )  # fmt: skip
        count = (labels != IGNORED).flatten(1).sum(1)
        if self.dice:
            total = (1 - self.dice) * total + self.dice * (dice_loss(logits, labels) * count).sum()
        return Loss(total, count.sum())


@part("objectives")
class DeepPixelClasses(PixelClasses):
    """The same, and a `share` of the mean of the losses of the maps that the model notes beside its answer, as of earlier
    levels (Lee et al., Deeply-Supervised Nets, 2015; Zhao et al., PSPNet, 2017, section 3.3, for the share).
    """

    def __init__(self, *, share: float = 0.4, dice: float = 0.0, smoothing: float = 0.0) -> None:
        super().__init__(dice=dice, smoothing=smoothing)
        self.share = share

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The losses summed over the pixels."""
        otherwise = "the head notes no maps; use heads.ContextReplay, or objectives.PixelClasses"
        said, notes = noted(model, batch, "maps", otherwise=otherwise)
        loss = self.apart(said, batch[LABELS])
        beside = torch.stack([self.apart(each, batch[LABELS]).total for each in notes["maps"]]).mean()
        return Loss(loss.total + self.share * beside, loss.count)


def dice_loss(logits: Float[Tensor, "B V Y X"], labels: Int[Tensor, "B Y X"]) -> Float[Tensor, " B"]:
    """1 - 2 |p t| / (|p|^2 + |t|^2) of each sample, the mean over the classes; pixels without label count for nothing."""
    real = (labels != IGNORED)[:, None]
    truth = F.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * real
    share = logits.softmax(1) * real
    both = (share * truth).sum((2, 3))
    size = share.square().sum((2, 3)) + truth.sum((2, 3))
    return (1 - (2 * both + 1e-5) / (size + 1e-5)).mean(1)
