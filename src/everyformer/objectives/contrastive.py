"""Which of a batch belong together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyformer.errors import BadInput
from everyformer.objectives.base import Loss, Objective, answer
from everyformer.registry import part


@part("objectives")
class Contrastive(Objective):
    """(CE over the texts of each picture + CE over the pictures of each text) / 2 (Radford et al., CLIP, 2021, figure 3).

    The i-th picture of a batch belongs to its i-th text.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the pairs."""
        logits = answer(model, batch).float()
        if logits.dim() != 2 or logits.shape[0] != logits.shape[1]:
            raise BadInput(f"expected as many texts as pictures; given answers of shape {tuple(logits.shape)}")
        pairs = torch.arange(len(logits), device=logits.device)
        both = F.cross_entropy(logits, pairs, reduction="sum") + F.cross_entropy(logits.mT, pairs, reduction="sum")
        return Loss(both / 2, torch.tensor(len(logits), device=logits.device))
