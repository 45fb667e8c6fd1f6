"""What is said in a sound, where nobody says when."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective
from everyformer.objectives.classes import check_classes
from everyformer.registry import part


@part("objectives")
class CTC(Objective):
    """-log of the chance that frames spell the labels: the sum over all ways to, where equal classes that follow each other
    are one and class 0, the blank, is none (Graves et al., Connectionist Temporal Classification, 2006, sections 3.1 and 4.1).

    `labels` (B, L) are classes from 1 on, -100 after the last; frames that are no sound stand at the end. Counted by labels.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The negative log likelihoods of the transcripts, in nats."""
        labels = batch[LABELS]
        states = model.features(**{name: value for name, value in batch.items() if name != LABELS})  # type: ignore[operator]
        logits = model.head(states).float()  # type: ignore[operator]
        check_classes(labels, logits.shape[-1])
        real = labels != IGNORED
        if (labels == 0).any():
            raise BadInput("a transcript holds class 0, which is the blank of CTC; number the labels from 1 on")
        frames = labels.new_full((logits.shape[0],), logits.shape[1])
        if states.mask is not None:
            frames = states.mask.sum(1)
        needed = real.sum(1) + (real[:, 1:] & (labels[:, 1:] == labels[:, :-1])).sum(1)
        if (needed > frames).any():
            row = int((needed > frames).nonzero()[0])
            raise BadInput(
                f"sample {row} has {int(frames[row])} frames, and its transcript takes {int(needed[row])}, a blank between equal "
                "labels counted; give the model more frames a second, or shorter transcripts"
            )
        total = F.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1), labels.clamp(min=0), frames, real.sum(1), reduction="sum"
        )
        return Loss(total, real.sum())
