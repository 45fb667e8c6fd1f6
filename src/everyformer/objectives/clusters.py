"""Masks that share every pixel among them, as the clusters of k-means do."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.convolution import resized
from everyformer.objectives.base import IGNORED
from everyformer.objectives.sets import MaskSets, matched, present
from everyformer.registry import part

SMALL = 1e-5


@part("objectives")
class ClusterMasks(MaskSets):
    """Queries that are matched with classes so that p(class) times Dice is the most: cross entropy of their classes, that
    counts as much as the mask is right, Dice of their masks, that counts as much as the class is, and cross entropy of
    each pixel over the queries (Wang et al., MaX-DeepLab, 2021, section 3.2, equations 7 to 12, as in the code of Yu et
    al., kMaX-DeepLab, 2022).

    `none` is the least that a query counts for; `classes`, `dice` and `entropy` weigh the three.
    """

    def __init__(self, *, none: float = SMALL, classes: float = 3.0, dice: float = 3.0, entropy: float = 0.3) -> None:
        super().__init__(none)
        self.weights = classes, dice, entropy

    def one(
        self, logits: Float[Tensor, "B N V"], masks: Float[Tensor, "B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample by the answers of one layer."""
        kinds, there, truth = present(labels, logits.shape[-1] - 1)
        truth, real = truth.flatten(2), (labels != IGNORED).flatten(1)[:, None].float()
        masks = resized(masks, labels.shape[1:]).flatten(2)
        odds = masks.softmax(1)
        with torch.no_grad():
            inside = odds * real
            alike = 2 * inside @ truth.mT / (inside.sum(2)[:, :, None] + truth.sum(2)[:, None] + 2 * SMALL)
            likely = logits.softmax(-1).gather(2, kinds[:, None].expand(-1, logits.shape[1], -1))
            query = matched(-alike * likely, there)
            chosen = F.one_hot(query.clamp(min=0), logits.shape[1]).mT * (query >= 0)[:, None]  # (B, N, T)
        of_class, of_mask = self.told(logits, kinds, chosen, alike, odds, real), self.shared(masks, chosen, truth)
        some = odds * real
        dice = 1 - (2 * some @ truth.mT + 1) / (some.sum(2)[:, :, None] + truth.sum(2)[:, None] + 1)
        whole = (dice * likely.clamp(min=self.none) * chosen).sum((1, 2)) * 0.75 / logits.shape[1]
        classes, weight, entropy = self.weights
        return classes * of_class + weight * whole + entropy * of_mask

    def told(
        self, logits: Tensor, kinds: Tensor, chosen: Tensor, alike: Tensor, odds: Tensor, real: Tensor
    ) -> Float[Tensor, " B"]:
        """The cross entropy of classes; a query without one counts as much of it as lies where nothing is known."""
        nothing, some = logits.shape[-1] - 1, chosen.any(2)
        target = torch.where(some, (chosen * kinds[:, None]).sum(2), nothing)
        void = (odds * (1 - real)).sum(2) / (odds.sum(2) + SMALL)
        weight = torch.where(some, (alike * chosen).sum(2), void).detach().clamp(min=self.none)
        side = torch.where(some, 0.75, 0.25)
        return (side * weight * F.cross_entropy(logits.mT, target, reduction="none")).mean(1)

    def shared(self, masks: Tensor, chosen: Tensor, truth: Tensor) -> Float[Tensor, " B"]:
        """The cross entropy of pixels over the queries."""
        wanted = chosen.float() @ truth
        known = wanted.sum(1)
        return (-(masks.log_softmax(1) * wanted).sum(1)).sum(1) / known.sum(1).clamp(min=1)
