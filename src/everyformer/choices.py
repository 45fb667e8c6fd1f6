"""Discrete choices that a model learns to make: hard on the way forward, soft on the way back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def straight_through(hard: Float[Tensor, "..."], soft: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The hard values, exactly, with the gradient of the soft ones (Bengio et al., 2013, section 3)."""
    return hard + (soft - soft.detach())


def choose(
    scores: Float[Tensor, "... n"],
    *,
    training: bool,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "... n"]:
    """One of n, as a one-hot vector: the best in use; in training a draw from softmax(scores) whose gradient is that of
    softmax((scores + g) / temperature), g the Gumbel noise that drew it (Jang et al., Gumbel-Softmax, 2017, section 2.2).
    """
    if not training:
        return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)
    noise = -torch.empty_like(scores).exponential_(generator=generator).log()
    soft = ((scores + noise) / temperature).softmax(-1)
    return straight_through(torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0), soft)
