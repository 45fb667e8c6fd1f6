"""What slots are trained by: the cells that are rebuilt from them, and a teacher's masks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.objectives.base import Loss, Objective, answer, noted
from everyformer.objectives.distillation import WithTeacher
from everyformer.objectives.sets import matched
from everyformer.registry import part


def rebuilding(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a model that rebuilds cells from slots says beside its answer."""
    otherwise = "a loss of slots needs a head that rebuilds cells from them; take heads.SlotMasks"
    return noted(model, batch, "rebuilt", otherwise=otherwise)[1]


def apart(notes: Mapping[str, Tensor]) -> Float[Tensor, " B"]:
    """The mean squared difference of cells and what is rebuilt of them; what is rebuilt follows the cells alone."""
    return (notes["rebuilt"].float() - notes["cells"].detach().float()).square().mean((1, 2))


@part("objectives")
class RebuiltCells(Objective):
    """The mean squared difference between the cells and what is rebuilt of them from slots (Kakogeorgiou et al., SPOT,
    2024, section 3.1). What made the cells is to be frozen: without that all cells become the same.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        each = apart(rebuilding(model, batch))
        return Loss(each.sum(), torch.tensor(len(each), device=each.device))


@part("objectives")
class SelfTaughtSlots(WithTeacher):
    """The same, and `share` of the cross entropy of whose each cell is by the scores of the slots, to which a trained model's
    decoder gave it: its masks are matched with those of the slots first (Kakogeorgiou et al., SPOT, 2024, section 3.2).
    """

    def __init__(self, *, teacher: str | None = None, share: float = 0.005) -> None:
        super().__init__(teacher=teacher)
        self.share = share

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        with torch.no_grad():
            told = answer(self.teacher, batch).flatten(2).argmax(1)
        notes = rebuilding(model, batch)
        each = apart(notes) + self.share * entropy(notes["scores"].float(), told)
        return Loss(each.sum(), torch.tensor(len(each), device=each.device))


def entropy(scores: Float[Tensor, "B S N"], told: Int[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """The cross entropy of the slots of cells, the mean over these; which slot is the teacher's is said by the IoU of masks."""
    count = scores.shape[1]
    ours, theirs = (F.one_hot(each, count).mT.float() for each in (scores.argmax(1), told))
    both = ours @ theirs.mT
    union = ours.sum(2)[:, :, None] + theirs.sum(2)[:, None] - both
    every = torch.ones(told.shape[0], count, dtype=torch.bool, device=told.device)
    slot = matched(1 - both / union.clamp(min=1), every)
    return F.cross_entropy(scores, slot.gather(1, told), reduction="none").mean(1)
