"""What experts for groups of classes are trained by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import DoesNotFit
from everyformer.objectives.base import LABELS, Loss, Objective, noted
from everyformer.objectives.classes import check_classes
from everyformer.registry import part

RAREST = 0.01
"""Of the most frequent classes this share is drawn, or more."""


@part("objectives")
class ExpertGroups(Objective):
    """Cross entropy of each expert on samples that are drawn so that all of its classes are about as frequent (Sudhakaran et
    al., VETO, 2023, section 3.3, and their code).

    `counts` are how often each class is there, from frequent to rare, none (class 0) left out. A sample that an expert is given
    goes to those of more frequent classes too, for which it is one of the others'; one of none goes to all. Counted by samples,
    the loss of each expert being the mean over its own: the samples of a batch are not independent.
    """

    def __init__(self, *, counts: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.counts = counts

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        otherwise = "a loss of experts needs a head with some; take heads.ExpertClasses"
        labels, (_, notes) = batch[LABELS], noted(model, batch, "expert 0", otherwise=otherwise)
        said = [each.float() for name, each in notes.items() if name.startswith("expert ")]
        sizes = [each.shape[1] - 2 for each in said]
        check_classes(labels, 1 + sum(sizes))
        given = self.given(labels, sizes)
        total, first = said[0].new_zeros(()), 1
        for logits, size, own in zip(said, sizes, given.T, strict=True):
            inside = (labels >= first) & (labels < first + size)
            target = torch.where(labels == 0, 0, torch.where(inside, labels - first + 1, size + 1))
            each = F.cross_entropy(logits, target, reduction="none") * own
            total = total + each.sum() / own.sum().clamp(min=1)
            first += size
        return Loss(total * len(labels), torch.tensor(len(labels), device=labels.device))

    def given(self, labels: Int[Tensor, " B"], sizes: Sequence[int]) -> Bool[Tensor, "B K"]:
        """Which samples each expert is given. Of the experts from the first on a sample goes to all up to the last for which its
        draw is below the rate of its class, or whose classes are more frequent than its own. Nothing is drawn but in training.
        """
        rates = self.rates(sizes).to(labels.device)
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(labels.device)
        group = torch.where(labels > 0, owner[(labels - 1).clamp(min=0)], len(sizes))
        numbers = torch.arange(len(sizes), device=labels.device)
        chance = torch.rand(len(labels), 1, device=labels.device) if self.training else 0.0
        reached = (chance <= rates.T[(labels - 1).clamp(min=0)]) | (numbers < group[:, None])
        return reached.flip(1).int().cummax(1).values.flip(1).bool()

    def rates(self, sizes: Sequence[int]) -> Float[Tensor, "K V"]:
        """For each expert the share of the samples of each class: the median count of its own classes over that of the class, at
        least RAREST; all where no counts are said.
        """
        if self.counts is None:
            return torch.ones(len(sizes), sum(sizes))
        if len(self.counts) != sum(sizes):
            raise DoesNotFit(f"counts of {len(self.counts)} classes, and the experts have {sum(sizes)}", "counts")
        counts, rows, first = torch.tensor(self.counts, dtype=torch.float), [], 0
        for size in sizes:
            rows.append(median(self.counts[first : first + size]) / counts)
            first += size
        return torch.stack(rows).clamp(RAREST, 1.0)
