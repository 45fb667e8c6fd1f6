"""Ways of spending less, compared where they spend the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from everyformer.errors import BadInput
from everyformer.registry import method

TRIES = 8
"""How often a share is halved in."""


@dataclass(frozen=True)
class Within:
    """What a way makes of a model within the budget."""

    share: float
    """What the way was given."""
    cost: float
    model: nn.Module


@method(
    "survey-transformer-inference",
    title="A Survey of Techniques for Optimizing Transformer Inference",
    authors="Chitty-Venkata et al.",
    year=2023,
    arxiv="2307.07982",
    idea="Pruning of heads, layers and tokens, narrow students: which loses least is told where all of them cost the same.",
)
def at_equal_cost(
    ways: Mapping[str, Callable[[float], nn.Module]], cost: Callable[[nn.Module], float], budget: float
) -> dict[str, Within]:
    """Of each way the dearest model it makes that costs no more than `budget`.

    A way makes a model of a share, above 0 to 1, and costs no less for a larger share; the share is found by halving in.
    """
    found = {}
    for name, make in ways.items():
        low, high, best = 0.0, 2.0, None
        for _ in range(TRIES):
            share = (low + high) / 2
            model = make(share)
            spent = cost(model)
            if spent > budget:
                high = share
                continue
            low, best = share, Within(share, spent, model)
            if share == 1.0:
                break
        if best is None:
            raise BadInput(
                f"'{name}' makes nothing that costs at most {budget:g}; at the share {high:.3g} it is dearer"
            )
        found[name] = best
    return found
