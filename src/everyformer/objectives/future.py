"""Several tokens ahead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from everyformer.errors import DoesNotFit
from everyformer.heads import FutureHead
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective
from everyformer.objectives.text import token_loss
from everyformer.registry import part


@part("objectives")
class FutureTokens(Objective):
    """sum over i of decay^(i-1) CE of the i-th token ahead, at each token (Walker, Future Token Prediction, 2024).

    For a model with a `FutureHead`, and windows of text without padding.
    """

    def __init__(self, *, decay: float = 0.8) -> None:
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"decay is above 0 and at most 1; given {decay}")
        self.decay = decay

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The weighted negative log likelihoods summed over the tokens, in nats; counted are the tokens."""
        head = getattr(model, "head", None)
        if not isinstance(head, FutureHead):
            raise DoesNotFit(f"FutureTokens asks a FutureHead, and here is {type(head).__name__}", "head")
        labels = batch[LABELS]
        states = model.features(**{name: value for name, value in batch.items() if name != LABELS})  # type: ignore[operator]
        wanted = head.future(labels, IGNORED)
        logits = head.say(states.values, wanted[..., :-1].clamp(min=0))
        losses = [token_loss(logits[:, :, i], wanted[:, :, i]).total * self.decay**i for i in range(head.ahead)]
        return Loss(torch.stack(losses).sum(), (labels != IGNORED).sum())
