"""Sequences that are worth something."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes
from everyformer.registry import part

GAINS = "gains"


@part("objectives")
class PolicyGradient(Objective):
    """Minus the logarithm of how likely a drawn sequence is, times what it gained: REINFORCE (Williams, 1992, section 5), as
    Lane2Seq (Zhou, 2024, section 3) tunes with the metrics.

    `labels` are the tokens that were drawn, -100 for those that were given; `gains` (B,) is what each sequence was rewarded
    with, less a baseline, which may be the reward of another draw. Counted by sequences.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the sequences."""
        labels, gains = batch[LABELS], batch[GAINS]
        logits = answer(model, {name: each for name, each in batch.items() if name != GAINS}).float()
        check_classes(labels, logits.shape[-1])
        unlikely = F.cross_entropy(logits.mT, labels, reduction="none", ignore_index=IGNORED).sum(1)
        return Loss((gains * unlikely).sum(), (labels != IGNORED).any(1).sum())
