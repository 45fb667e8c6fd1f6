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
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes
from everyformer.registry import part


@part("objectives")
class Boxes(Objective):
    """Cross entropy of every query, those that are matched with nothing saying so, and for those that are matched the
    distance of their boxes (Carion et al., DETR, 2020, section 3.1, equations 1 and 2; A.2 for the weights).

    Labels are (B, T, 5): class, centre x and y, width and height as shares of the picture's; class -100 fills up. `none`
    weighs the queries that match nothing, `l1` the sum of the differences, `giou` generalised IoU. Each layer of a
    decoder that notes its answers is matched and trained alike. Counted by samples, each the mean over its things.
    """

    def __init__(self, *, none: float = 0.1, l1: float = 5.0, giou: float = 2.0) -> None:
        super().__init__()
        self.none, self.l1, self.giou = none, l1, giou

    def forward(self, model: nn.Module, batch: Mapping[str, Any]) -> Loss:
        """The loss summed over the samples and the layers."""
        context = Context(notes={})
        said = answer(model, {**batch, "context": context}).float()
        layers = [*(context.notes or {}).get("layers", ()), said]
        total = torch.stack([self.one(each.float(), batch[LABELS]).sum() for each in layers]).sum()
        return Loss(total, torch.tensor(len(said), device=said.device))

    def one(self, said: Float[Tensor, "B N E"], labels: Float[Tensor, "B T 5"]) -> Float[Tensor, " B"]:
        """The loss of each sample by the answers of one layer."""
        logits, boxes = said[..., :-4], said[..., -4:]
        kinds, wanted = labels[..., 0].long(), labels[..., 1:]
        nothing = logits.shape[-1] - 1
        check_classes(kinds, nothing)
        there = kinds != IGNORED
        query = matched(self.cost(logits, boxes, kinds.clamp(min=0), wanted), there)
        named = torch.where(query >= 0, query, logits.shape[1])
        target = kinds.new_full((len(kinds), logits.shape[1] + 1), nothing).scatter(1, named, kinds)[:, :-1]
        weight = torch.where(target == nothing, self.none, 1.0)
        entropy = F.cross_entropy(logits.mT, target, reduction="none")
        found = boxes.gather(1, query.clamp(min=0)[..., None].expand(-1, -1, 4))
        share, beyond = overlaps(corners(found), corners(wanted))
        apart = self.l1 * (found - wanted).abs().sum(-1) + self.giou * (1 - share + beyond)
        apart = (apart * (query >= 0)).sum(1) / there.sum(1).clamp(min=1)
        return (weight * entropy).sum(1) / weight.sum(1) + apart

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
