"""Average precision of boxes as COCO counts it (Lin et al., 2014), without its crowds and its classes of size."""

from __future__ import annotations

from collections import defaultdict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.boxes import overlaps

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
"""How much of the union a box must share with a thing to have found it: 0.5 to 0.95."""
MOST = 100
"""How many answers of a picture count, the surest first."""


class Precision:
    """Answers and truth, picture by picture; then the mean of the average precision over the classes that are there."""

    def __init__(self) -> None:
        self.scores: dict[int, list[Tensor]] = defaultdict(list)
        self.hits: dict[int, list[Tensor]] = defaultdict(list)
        self.there: dict[int, int] = defaultdict(int)

    def add(
        self,
        boxes: Float[Tensor, "N 4"],
        kinds: Int[Tensor, " N"],
        scores: Float[Tensor, " N"],
        true_boxes: Float[Tensor, "T 4"],
        true_kinds: Int[Tensor, " T"],
    ) -> None:
        """Count a picture in; boxes are left, top, right, bottom in any unit."""
        chosen = scores.argsort(descending=True, stable=True)[:MOST]
        boxes, kinds, scores = boxes[chosen], kinds[chosen], scores[chosen]
        for kind in torch.cat((kinds, true_kinds)).unique().tolist():
            own, truth = boxes[kinds == kind], true_boxes[true_kinds == kind]
            self.there[kind] += len(truth)
            self.scores[kind].append(scores[kinds == kind])
            self.hits[kind].append(found(overlaps(own[:, None].double(), truth[None].double())[0]))

    def averages(self) -> Float[Tensor, "R V"]:
        """The average precision at every threshold of every class that is there."""
        kinds = [kind for kind, count in sorted(self.there.items()) if count]
        each = [average(torch.cat(self.scores[kind]), torch.cat(self.hits[kind]), self.there[kind]) for kind in kinds]
        return torch.stack(each, 1) if each else torch.zeros(len(THRESHOLDS), 1, dtype=torch.double)

    def figures(self) -> dict[str, float]:
        """`ap`, the mean over all thresholds and classes, and `ap50` and `ap75`, at a threshold of 0.5 and of 0.75."""
        averages = self.averages().mean(1)
        return {"ap": float(averages.mean()), "ap50": float(averages[0]), "ap75": float(averages[5])}


def found(share: Float[Tensor, "N T"]) -> Bool[Tensor, "N R"]:
    """Which answers, the surest first, find a thing at each threshold: the best that no surer one has found."""
    hits = torch.zeros(len(share), len(THRESHOLDS), dtype=torch.bool)
    if not share.numel():
        return hits
    for column, threshold in enumerate(THRESHOLDS):
        free = share.clone()
        for row in range(len(share)):
            best, thing = free[row].max(0)
            if best >= threshold - 1e-10:
                hits[row, column] = True
                free[:, thing] = -1
    return hits


def average(scores: Float[Tensor, " N"], hits: Bool[Tensor, "N R"], there: int) -> Float[Tensor, " R"]:
    """The mean precision at recall 0, 0.01, ..., 1; at each the best precision of that recall or a higher one."""
    right = hits[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    count = torch.arange(1, len(scores) + 1, dtype=torch.double)[:, None]
    precision = (right / count).flip(0).cummax(0).values.flip(0).mT.contiguous()
    recall = (right / there).mT.contiguous()
    wanted = torch.linspace(0, 1, 101, dtype=torch.double).expand(len(recall), -1).contiguous()
    place = torch.searchsorted(recall, wanted - 1e-12)
    padded = torch.cat((precision, precision.new_zeros(len(precision), 1)), 1)
    return padded.gather(1, place).mean(1)
