"""Vectors that can be compared with those of an older model."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.heads.pools import FirstToken, Pool
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class Rotation(nn.Module):
    """R x, R the exponential of A - A^T, orthonormal whatever A is; at first it turns nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.generator = nn.Parameter(torch.zeros(width, width))

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The turned values."""
        turn = torch.matrix_exp((self.generator - self.generator.mT).float())
        return values @ turn.mT.to(values.dtype)


@part("heads")
class BasisTransforms(Head):
    """A vector of `old` + `extra` numbers, of which the first `old` can be compared with vectors of an older model of that width.

    [u ; C n], n the vector of the new model and u what the old one has beside it, both of length one: a rotation of C n, and
    one of the first `old` numbers (Zhou et al., BT^2, 2023, their code). Rotations leave all inner products as they are.
    Where an objective asks for notes, n is noted as 'new', the comparable numbers as 'old', logits of n as 'labels'.
    """

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        old: int,
        extra: int = 32,
        pool: Spec[Pool] = spec(FirstToken),  # noqa: B008
        scale: float = 3.0,
    ) -> None:
        super().__init__()
        if old < 1 or extra < 0:
            raise ValueError(f"old is at least 1 and extra at least 0; given {old} and {extra}")
        self.old, self.scale = old, scale
        self.pool: Any = self.make("pool", pool, width)
        self.project = nn.Linear(width * self.pool.widens, 2 * old)
        self.recall = nn.Linear(2 * old, extra)
        self.first, self.second = Rotation(old), Rotation(old)
        self.classify = nn.Linear(old, classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B E"]:
        """The vector of each sample."""
        projected = self.project(self.pool(tokens))
        new, beside = F.normalize(projected[:, : self.old], dim=-1), F.normalize(self.recall(projected), dim=-1)
        whole = torch.cat((beside, self.first(self.scale * new)), -1)
        comparable = self.second(whole[:, : self.old])
        if context is not None and context.notes is not None:
            context.notes |= {"new": new, "old": comparable, "labels": self.classify(new)}
        return torch.cat((comparable, whole[:, self.old :]), -1)
