"""Answers that stand in several places."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.registry import part


@part("objectives")
class MarginalSpans(Objective):
    """-log of the sum of the probabilities of all spans that answer, among those of all passages (Kedia et al., FiE, 2022).

    Labels are those of a `SpanHead`'s scores: 1 where a span answers, 0 where not, -100 where it is none. A question without an
    answer here counts for nothing.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The negative log likelihoods summed over the questions, in nats; counted are the questions with an answer."""
        labels = batch[LABELS].flatten(1)
        scores = answer(model, batch).flatten(1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        asked = (labels == 1).any(1)
        low = torch.finfo(scores.dtype).min
        every = scores.masked_fill(labels == IGNORED, low).logsumexp(1)
        right = scores.masked_fill(labels != 1, low).logsumexp(1)
        return Loss((every - right).masked_fill(~asked, 0).sum(), asked.sum())
