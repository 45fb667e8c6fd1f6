"""Sets of things, and of what they are to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.objectives.base import IGNORED, LABELS, Loss, noted
from everyformer.objectives.classes import check_classes
from everyformer.objectives.sets import Boxes, matched
from everyformer.registry import part


@part("objectives")
class Interactions(Boxes):
    """What `Boxes` asks of things, `guidance` times the cross entropy of the names of those that are matched, and of the
    queries the cross entropy of the relation and `pointing` times that of both things (Tu et al., AGER, 2023).

    Labels are (B, T, 5 + T): of each thing its class and box as in `Boxes`, and then what it is to each of the T things, -100 for
    nothing. Each layer of the body is matched and trained alike. Counted by samples, each the mean over its things, and
    over its relations. A pair has one relation here, so this is cross entropy where the paper has a focal loss of each verb.
    """

    def __init__(
        self, *, none: float = 0.1, l1: float = 5.0, giou: float = 2.0, guidance: float = 1.0, pointing: float = 1.0
    ) -> None:
        super().__init__(none=none, l1=l1, giou=giou)
        self.guidance, self.pointing = guidance, pointing

    def forward(self, model: nn.Module, batch: Mapping[str, Any]) -> Loss:
        """The loss summed over the samples and the layers."""
        labels = batch[LABELS]
        if labels.shape[-1] != labels.shape[1] + 5:
            raise BadInput(
                f"expected labels (B, T, 5 + T): class, box, and what each of T things is to each; given {tuple(labels.shape)}"
            )
        otherwise = "a loss of relations needs a head that points at things; take heads.Interactions"
        _, notes = noted(model, batch, "things", otherwise=otherwise)
        things, labels = notes["things"].float(), labels.float()
        boxes, kinds = labels[..., :5], labels[..., 5:].long().flatten(1)
        token = self.query(things, boxes)
        each = self.told(things, boxes, token) + self.guidance * self.names(notes["names"].float(), boxes, token)
        ends = ends_of(token)
        there = (kinds != IGNORED) & (ends >= 0).all(0)
        for layer in zip(notes["relations"].float(), notes["subjects"].float(), notes["objects"].float(), strict=True):
            each = each + self.related(*layer, kinds, ends.clamp(min=0), there)
        return Loss(each.sum(), torch.tensor(len(each), device=each.device))

    def names(
        self, names: Float[Tensor, "B K V"], labels: Float[Tensor, "B T 5"], token: Int[Tensor, "B T"]
    ) -> Float[Tensor, " B"]:
        """The cross entropy of the names of things by the tokens that they are matched with."""
        found = names.gather(1, token.clamp(min=0)[..., None].expand(-1, -1, names.shape[-1]))
        kinds = labels[..., 0].long().masked_fill(token < 0, IGNORED)
        entropy = F.cross_entropy(found.mT, kinds, reduction="none", ignore_index=IGNORED)
        return entropy.sum(1) / (kinds != IGNORED).sum(1).clamp(min=1)

    def related(
        self,
        relations: Float[Tensor, "B N R"],
        subjects: Float[Tensor, "B N K"],
        objects: Float[Tensor, "B N K"],
        kinds: Int[Tensor, "B P"],
        ends: Int[Tensor, "2 B P"],
        there: Bool[Tensor, "B P"],
    ) -> Float[Tensor, " B"]:
        """The loss of the queries of one layer."""
        check_classes(kinds, relations.shape[-1] - 1)
        said = (relations, subjects, objects)
        wanted = (kinds.clamp(min=0), *ends)
        logs = [
            a.log_softmax(-1).gather(2, b[:, None].expand(-1, a.shape[1], -1))
            for a, b in zip(said, wanted, strict=True)
        ]
        query = matched(-torch.stack(logs).exp().sum(0), there)
        at = query.clamp(min=0)[:, None]
        apart = -(logs[1] + logs[2]).gather(1, at).squeeze(1) * (query >= 0)
        return self.entropy(relations, query, kinds) + self.pointing * apart.sum(1) / there.sum(1).clamp(min=1)


def ends_of(token: Int[Tensor, "B T"]) -> Int[Tensor, "2 B P"]:
    """The tokens of the subject and of the object of each of the T x T pairs of things."""
    shape = (len(token), token.shape[1], token.shape[1])
    return torch.stack((token[:, :, None].expand(shape), token[:, None].expand(shape))).flatten(2)
