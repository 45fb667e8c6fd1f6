"""Scores that a later network takes over from an earlier one."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from everyformer.contracts import Scored, ScoreStep
from everyformer.registry import part

GIVEN, FOUND = "relations given", "relations found"
"""Where a pass keeps what each layer is to add, and what each layer had, in order."""


@part("scores")
class Relayed(ScoreStep):
    """Adds what the scores of an earlier network have become, and leaves its own for a later one (Wang et al., DVT, 2021,
    section 3.2, relationship reuse); without either it changes nothing.
    """

    piecewise = False

    def scores(self, scores: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The sum."""
        kept: dict[Any, Any] = at.context.lowered
        if FOUND not in kept:
            return scores
        if kept.get(GIVEN) is not None:
            scores = scores + kept[GIVEN][len(kept[FOUND])]
        kept[FOUND].append(scores)
        return scores
