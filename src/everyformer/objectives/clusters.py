"""Masks that share every pixel among them, as the clusters of k-means do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.convolution import resized
from everyformer.objectives.base import IGNORED
from everyformer.objectives.sets import MaskSets, matched, present
from everyformer.registry import part

SMALL = 1e-5


@dataclass(frozen=True)
class Match:
    """What queries are matched with, and how well they do."""

    size: Sequence[int]
    """The rows and columns of the labels."""
    target: Int[Tensor, "B N"]
    """The class of each query, the last one for none."""
    weight: Float[Tensor, "B N"]
    """How right the mask of each is; of those without a class, what of it lies where nothing is known."""
    named: Float[Tensor, "B N T"]
    """How likely each query says the class that it is matched with."""
    some: Bool[Tensor, "B N"]
    truth: Float[Tensor, "B T M"]
    real: Float[Tensor, "B 1 M"]
    wanted: Float[Tensor, "B N M"]
    """The mask that each query is to have."""


@part("objectives")
class ClusterMasks(MaskSets):
    """Queries that are matched with classes so that p(class) times Dice is the most: cross entropy of their classes, that
    counts as much as the mask is right, Dice of their masks, that counts as much as the class is, and cross entropy of
    each pixel over the queries (Wang et al., MaX-DeepLab, 2021, section 3.2, equations 7 to 12, as in the code of Yu et
    al., kMaX-DeepLab, 2022). What the last layer is matched with, all are trained for.

    `none` is the least that a query counts for; `classes`, `dice` and `entropy` weigh the three.
    """

    def __init__(self, *, none: float = SMALL, classes: float = 3.0, dice: float = 3.0, entropy: float = 0.3) -> None:
        super().__init__(none)
        self.weights = classes, dice, entropy

    def layers(
        self, classes: Float[Tensor, "L B N V"], masks: Float[Tensor, "L B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample, summed over the layers."""
        match = self.match(classes[-1], masks[-1], labels)
        return torch.stack([self.each(match, *layer) for layer in zip(classes, masks, strict=True)]).sum(0)

    @torch.no_grad()
    def match(
        self, logits: Float[Tensor, "B N V"], masks: Float[Tensor, "B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Match:
        """What each query is to be, by the answers of one layer."""
        kinds, there, truth = present(labels, logits.shape[-1] - 1)
        truth, real = truth.flatten(2), (labels != IGNORED).flatten(1)[:, None].float()
        odds = resized(masks, labels.shape[1:]).flatten(2).softmax(1)
        inside = odds * real
        alike = 2 * inside @ truth.mT / (inside.sum(2)[:, :, None] + truth.sum(2)[:, None] + 2 * SMALL)
        likely = logits.softmax(-1).gather(2, kinds[:, None].expand(-1, logits.shape[1], -1))
        query = matched(-alike * likely, there)
        chosen = F.one_hot(query.clamp(min=0), logits.shape[1]).mT * (query >= 0)[:, None]
        some = chosen.any(2)
        void = (odds * (1 - real)).sum(2) / (odds.sum(2) + SMALL)
        return Match(
            labels.shape[1:],
            target=torch.where(some, (chosen * kinds[:, None]).sum(2), logits.shape[-1] - 1),
            weight=torch.where(some, (alike * chosen).sum(2), void).clamp(min=self.none),
            named=likely.clamp(min=self.none) * chosen,
            some=some,
            truth=truth,
            real=real,
            wanted=chosen.float() @ truth,
        )

    def each(
        self, match: Match, logits: Float[Tensor, "B N V"], masks: Float[Tensor, "B N y x"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample by the answers of one layer, so matched."""
        masks = resized(masks, match.size).flatten(2)
        inside = masks.softmax(1) * match.real
        dice = 1 - (2 * inside @ match.truth.mT + 1) / (inside.sum(2)[:, :, None] + match.truth.sum(2)[:, None] + 1)
        whole = (dice * match.named).sum((1, 2)) * 0.75 / logits.shape[1]
        entropy = F.cross_entropy(logits.mT, match.target, reduction="none")
        of_class = (torch.where(match.some, 0.75, 0.25) * match.weight * entropy).mean(1)
        known = match.wanted.sum((1, 2)).clamp(min=1)
        of_mask = -(masks.log_softmax(1) * match.wanted).sum((1, 2)) / known
        classes, weight, pixels = self.weights
        return classes * of_class + weight * whole + pixels * of_mask
