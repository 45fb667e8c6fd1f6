"""Sets of answers and of things that are there: each thing is matched with one answer, so that no two say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.boxes import corners, overlaps
from everyformer.context import Context
from everyformer.convolution import resized
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer, noted
from everyformer.objectives.classes import check_classes
from everyformer.registry import part


class _Sets(Objective):
    """Base: `none` weighs the queries that match nothing."""

    def __init__(self, none: float) -> None:
        super().__init__()
        self.none = none

    def entropy(
        self, logits: Float[Tensor, "B N V"], query: Int[Tensor, "B T"], kinds: Int[Tensor, "B T"]
    ) -> Float[Tensor, " B"]:
        """The cross entropy of all queries of each sample, the weighted mean; `query` says which is matched with what."""
        nothing = logits.shape[-1] - 1
        named = torch.where(query >= 0, query, logits.shape[1])
        target = kinds.new_full((len(kinds), logits.shape[1] + 1), nothing).scatter(1, named, kinds)[:, :-1]
        weight = torch.where(target == nothing, self.none, 1.0)
        return (weight * F.cross_entropy(logits.mT, target, reduction="none")).sum(1) / weight.sum(1)


@part("objectives")
class Boxes(_Sets):
    """Cross entropy of every query, those that are matched with nothing saying so, and for those that are matched the
    distance of their boxes (Carion et al., DETR, 2020, section 3.1, equations 1 and 2; A.2 for the weights).

    Labels are (B, T, 5): class, centre x and y, width and height as shares of the picture's; class -100 fills up. `l1`
    weighs the sum of the differences, `giou` generalised IoU. Each layer of a body that notes its answers is matched and
    trained alike. Counted by samples, each the mean over its things.
    """

    def __init__(self, *, none: float = 0.1, l1: float = 5.0, giou: float = 2.0) -> None:
        super().__init__(none)
        self.l1, self.giou = l1, giou

    def forward(self, model: nn.Module, batch: Mapping[str, Any]) -> Loss:
        """The loss summed over the samples and the layers."""
        context = Context(notes={})
        said = answer(model, {**batch, "context": context}).float()
        layers = [*(context.notes or {}).get("layers", ()), said]
        total = torch.stack([self.one(each.float(), batch[LABELS]).sum() for each in layers]).sum()
        return Loss(
            total + self.beside(context.notes or {}, batch[LABELS]), torch.tensor(len(said), device=said.device)
        )

    def beside(self, notes: Mapping[str, Tensor], labels: Float[Tensor, "B T 5"]) -> Tensor | float:
        """What else a head is trained by, summed over the samples."""
        return 0.0

    def one(self, said: Float[Tensor, "B N E"], labels: Float[Tensor, "B T 5"]) -> Float[Tensor, " B"]:
        """The loss of each sample by the answers of one layer."""
        return self.told(said, labels, self.query(said, labels))

    def query(self, said: Float[Tensor, "B N E"], labels: Float[Tensor, "B T 5"]) -> Int[Tensor, "B T"]:
        """Which query is matched with each thing, -1 for none."""
        logits, boxes = said[..., :-4], said[..., -4:]
        kinds, wanted = labels[..., 0].long(), labels[..., 1:]
        check_classes(kinds, logits.shape[-1] - 1)
        return matched(self.cost(logits, boxes, kinds.clamp(min=0), wanted), kinds != IGNORED)

    def told(
        self, said: Float[Tensor, "B N E"], labels: Float[Tensor, "B T 5"], query: Int[Tensor, "B T"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample, so matched."""
        logits, boxes = said[..., :-4], said[..., -4:]
        kinds, wanted = labels[..., 0].long(), labels[..., 1:]
        found = boxes.gather(1, query.clamp(min=0)[..., None].expand(-1, -1, 4))
        share, beyond = overlaps(corners(found), corners(wanted))
        apart = self.l1 * (found - wanted).abs().sum(-1) + self.giou * (1 - share + beyond)
        apart = (apart * (query >= 0)).sum(1) / (kinds != IGNORED).sum(1).clamp(min=1)
        return self.entropy(logits, query, kinds) + apart

    @torch.no_grad()
    def cost(
        self,
        logits: Float[Tensor, "B N V"],
        boxes: Float[Tensor, "B N 4"],
        kinds: Int[Tensor, "B T"],
        wanted: Float[Tensor, "B T 4"],
    ) -> Float[Tensor, "B N T"]:
        """What it would cost to match each query with each thing: -p(class) and the distance of the boxes."""
        likely = logits.softmax(-1).gather(2, kinds[:, None].expand(-1, logits.shape[1], -1))
        share, beyond = overlaps(corners(boxes)[:, :, None], corners(wanted)[:, None])
        apart = (boxes[:, :, None] - wanted[:, None]).abs().sum(-1)
        return self.l1 * apart - likely - self.giou * (share - beyond)


class MaskSets(_Sets):
    """Base: classes and masks of queries against a map of classes, -100 counting for nothing. Each layer of a body is
    trained alike. Counted by samples, each the mean over its classes.
    """

    def forward(self, model: nn.Module, batch: Mapping[str, Any]) -> Loss:
        """The loss summed over the samples and the layers."""
        labels, otherwise = batch[LABELS], "a loss of masks needs a head that says them; take heads.MaskQueries"
        _, notes = noted(model, batch, "masks", otherwise=otherwise)
        total = self.layers(notes["classes"].float(), notes["masks"].float(), labels).sum()
        return Loss(total, torch.tensor(len(labels), device=labels.device))

    def layers(
        self, classes: Float[Tensor, "L B N V"], masks: Float[Tensor, "L B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample, summed over the layers."""
        raise NotImplementedError


def present(
    labels: Int[Tensor, "B Y X"], classes: int
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"], Float[Tensor, "B T Y X"]]:
    """The classes of each map, those with most pixels first, which of them are there, and their masks."""
    check_classes(labels, classes)
    real = labels != IGNORED
    counts = F.one_hot(labels.clamp(min=0).flatten(1), classes).mul(real.flatten(1)[..., None]).sum(1)
    counts, kinds = counts.sort(dim=1, descending=True, stable=True)
    most = max(1, int((counts > 0).sum(1).max()))
    kinds, there = kinds[:, :most], counts[:, :most] > 0
    return kinds, there, (labels[:, None] == kinds[..., None, None]).float()


class _Separate(MaskSets):
    """Base for masks that know nothing of each other: cross entropy of every query, and for those that are matched with a
    class that is there what `pixel` says of each pixel of their masks, and Dice; `weights` are those of the three, in the
    matching too.
    """

    def __init__(self, none: float, weights: tuple[float, float, float]) -> None:
        super().__init__(none)
        self.weights = weights

    def layers(
        self, classes: Float[Tensor, "L B N V"], masks: Float[Tensor, "L B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample, summed over the layers, each of which is matched on its own."""
        return torch.stack([self.one(*layer, labels) for layer in zip(classes, masks, strict=True)]).sum(0)

    @staticmethod
    def pixel(logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each pixel where the mask is, and where it is not."""
        raise NotImplementedError

    def one(
        self, logits: Float[Tensor, "B N V"], masks: Float[Tensor, "B N y x"], labels: Int[Tensor, "B Y X"]
    ) -> Float[Tensor, " B"]:
        """The loss of each sample by the answers of one layer."""
        kinds, there, truth = present(labels, logits.shape[-1] - 1)
        real = labels != IGNORED
        query = matched(self.cost(logits, masks, truth, real, kinds), there)
        index = query.clamp(min=0)[..., None, None].expand(-1, -1, *masks.shape[2:])
        found = resized(masks.gather(1, index), labels.shape[1:]).flatten(2)
        truth, weight = truth.flatten(2), real.flatten(1)[:, None].float()
        right, wrong = self.pixel(found)
        each = (torch.where(truth > 0, right, wrong) * weight).sum(2) / weight.sum(2).clamp(min=1)
        share = found.sigmoid() * weight
        dice = 1 - (2 * (share * truth).sum(2) + 1) / (share.sum(2) + truth.sum(2) + 1)
        named, pixels, whole = self.weights
        apart = (pixels * each + whole * dice) * (query >= 0)
        return named * self.entropy(logits, query, kinds) + apart.sum(1) / there.sum(1).clamp(min=1)

    @torch.no_grad()
    def cost(
        self,
        logits: Float[Tensor, "B N V"],
        masks: Float[Tensor, "B N y x"],
        truth: Float[Tensor, "B T Y X"],
        real: Bool[Tensor, "B Y X"],
        kinds: Int[Tensor, "B T"],
    ) -> Float[Tensor, "B N T"]:
        """What it would cost to match each query with each class: -p(class) and the distance of the masks, on their grid."""
        given = F.interpolate(torch.cat((truth, real[:, None].float()), 1), masks.shape[2:]).flatten(2)
        wanted, weight = given[:, :-1], given[:, -1:]
        found = masks.flatten(2)
        likely = logits.softmax(-1).gather(2, kinds[:, None].expand(-1, logits.shape[1], -1))
        right, wrong = self.pixel(found)
        each = right @ wanted.mT + wrong @ (weight - wanted).mT
        share = found.sigmoid() * weight
        dice = 1 - (2 * share @ wanted.mT + 1) / (share.sum(2)[:, :, None] + wanted.sum(2)[:, None] + 1)
        named, pixels, whole = self.weights
        return pixels * each / weight.sum(2, keepdim=True).clamp(min=1) + whole * dice - named * likely


@part("objectives")
class Masks(_Separate):
    """Cross entropy of the classes of queries, focal loss and Dice of their masks (Cheng et al., MaskFormer, 2021, section
    3.2 and B.1).
    """

    def __init__(self, *, none: float = 0.1, focal: float = 20.0, dice: float = 1.0) -> None:
        super().__init__(none, (1.0, focal, dice))

    @staticmethod
    def pixel(logits: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - p)^2 times the entropy, a quarter to three quarters (Lin et al., 2017, equation 5)."""
        share = logits.sigmoid()
        return 0.25 * (1 - share) ** 2 * F.softplus(-logits), 0.75 * share**2 * F.softplus(logits)


@part("objectives")
class BinaryMasks(_Separate):
    """Cross entropy of the classes of queries, binary cross entropy and Dice of their masks (Cheng et al., Mask2Former,
    2022, section 3.3), over all pixels where the authors draw some to save memory.
    """

    def __init__(self, *, none: float = 0.1, classes: float = 2.0, entropy: float = 5.0, dice: float = 5.0) -> None:
        super().__init__(none, (classes, entropy, dice))

    @staticmethod
    def pixel(logits: Tensor) -> tuple[Tensor, Tensor]:
        """The entropy."""
        return F.softplus(-logits), F.softplus(logits)


def matched(cost: Float[Tensor, "B N T"], there: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The query of each thing that is there, no two the same and the sum of their costs the least (Kuhn, 1955); -1 for
    what is not there, or finds none left.
    """
    from scipy.optimize import linear_sum_assignment

    most = torch.finfo(torch.float32).max
    costs = cost.detach().float().nan_to_num(most, most, -most).cpu()
    found = torch.full(there.shape, -1)
    for row, real in enumerate(there.cpu()):
        things = real.nonzero()[:, 0]
        queries, columns = linear_sum_assignment(costs[row][:, things].numpy())
        found[row, things[torch.from_numpy(columns)]] = torch.from_numpy(queries)
    return found.to(there.device)
