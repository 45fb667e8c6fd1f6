"""What kind of head it is: figures of attention weights (B, H, N, M), one for each head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.interpret.taps import record

Weights = Float[Tensor, "B H N M"]


def offset_score(weights: Weights, offset: int) -> Float[Tensor, " H"]:
    """The mean weight on the token `offset` places on: -1 finds previous-token heads."""
    count = weights.shape[-1] - abs(offset)
    return weights.diagonal(offset, -2, -1).sum(-1).mean(0) / count


def duplicate_score(weights: Weights, ids: Int[Tensor, "B N"]) -> Float[Tensor, " H"]:
    """The mean weight that a repeated token has on its earlier selves."""
    earlier = (ids[:, :, None] == ids[:, None, :]).tril(-1)
    share = (weights * earlier[:, None]).sum(-1)
    repeated = earlier.any(-1)
    return (share * repeated[:, None]).sum((0, 2)) / repeated.sum()


def induction_score(weights: Weights, period: int) -> Float[Tensor, " H"]:
    """On a sequence that repeats itself after `period` tokens: the weight on the token after the same one before.

    Olsson et al., In-context learning and induction heads, 2022.
    """
    return weights.diagonal(1 - period, -2, -1)[..., 1:].mean((0, 2))


def entropy(weights: Weights) -> Float[Tensor, " H"]:
    """Mean entropy of the rows, in nats."""
    return torch.special.entr(weights).sum(-1).mean((0, 2))


def distance(weights: Weights) -> Float[Tensor, " H"]:
    """Mean distance between a token and what it attends to, in tokens."""
    places = torch.arange(weights.shape[-1], device=weights.device)
    gap = (places - places[: weights.shape[-2], None]).abs().to(weights.dtype)
    return (weights * gap).sum(-1).mean((0, 2))


@torch.no_grad()
def find_heads(model: nn.Module, ids: Int[Tensor, "B N"]) -> dict[str, Mapping[str, Tensor]]:
    """Every attention's figures, head by head, on random tokens: `ids` are repeated once after themselves."""
    period = ids.shape[1]
    twice = torch.cat((ids, ids), 1)
    with record(model, "**.weights") as seen:
        model(twice)
    return {
        path.removesuffix(".weights"): {
            "previous": offset_score(weights, -1),
            "duplicate": duplicate_score(weights, twice),
            "induction": induction_score(weights, period),
            "entropy": entropy(weights),
            "distance": distance(weights),
        }
        for path, weights in seen.items()
    }
