"""Targets of which some tokens are hidden."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, noted
from everyformer.objectives.classes import check_classes
from everyformer.registry import part


@part("objectives")
class MaskedTarget(Objective):
    """The hidden tokens of a target given its source and the others (Ghazvininejad et al., Mask-Predict, 2019, section 3.2),
    and `share` times how many there are (section 3.3), for a `ParallelSeq2Seq`. Counted by hidden tokens.

    `labels` is the target itself, and `hidden` the token that stands where one is hidden: any number of them, each as likely.
    A batch may bring the `noise` (B, 1 + N) that says how many and which; else it is drawn.
    """

    def __init__(self, *, hidden: int, share: float = 0.1) -> None:
        super().__init__()
        if share < 0:
            raise BadInput(f"the share of the length in the loss is at least 0; given {share}")
        self.hidden, self.share = hidden, share

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the hidden tokens."""
        labels = batch[LABELS]
        real = labels != IGNORED
        noise = batch.get("noise")
        noise = torch.rand(len(labels), 1 + labels.shape[1], device=labels.device) if noise is None else noise
        hidden = drawn(real, noise)
        given = {name: value for name, value in batch.items() if name not in ("noise", "target", "target_mask")}
        target = labels.masked_fill(hidden | ~real, self.hidden)
        said, notes = noted(
            model, {**given, "target": target, "target_mask": real}, "lengths",
            otherwise="the model does not tell how long a target is; use models.ParallelSeq2Seq",
        )  # fmt: skip
        check_classes(labels.masked_fill(~hidden, IGNORED), said.shape[-1])
        each = F.cross_entropy(said.mT.float(), labels.clamp(min=0), reduction="none") * hidden
        counts, told = real.sum(1), notes["lengths"].float()
        if not torch.compiler.is_compiling() and int(counts.max()) >= told.shape[1]:
            raise BadInput(
                f"a target has {int(counts.max())} tokens, and the model tells of {told.shape[1] - 1} at most"
            )
        number = hidden.sum(1)
        length = F.cross_entropy(told, counts, reduction="none")
        return Loss(each.sum() + self.share * (length * number).sum(), number.sum())


def drawn(real: Bool[Tensor, "B N"], noise: Float[Tensor, "B N1"]) -> Bool[Tensor, "B N"]:
    """Which tokens are hidden: from one to all of the real ones, those of the least noise."""
    count = real.sum(1, keepdim=True)
    number = 1 + (noise[:, :1] * count).long().clamp(max=count - 1)
    rank = noise[:, 1:].masked_fill(~real, 2.0).argsort(1).argsort(1)
    return real & (rank < number)
