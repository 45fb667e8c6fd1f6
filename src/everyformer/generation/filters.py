"""Filters of the next token's logits: what they rule out becomes minus infinity."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RULED_OUT = float("-inf")


def temperature(logits: Float[Tensor, "B V"], value: float) -> Float[Tensor, "B V"]:
    """Logits divided by `value`: below 1 sharper, above 1 flatter (Ackley et al., 1985)."""
    return logits / value


def top_k(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """The `k` largest logits of each row, and those equal to the smallest of them (Fan et al., 2018, section 5.4)."""
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, RULED_OUT)


def top_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """The fewest most probable tokens whose probability reaches `p` (Holtzman et al., 2020, section 3.1)."""
    ordered, places = logits.sort(-1)
    below = ordered.softmax(-1).cumsum(-1) <= 1 - p
    below[..., -1] = False
    return logits.masked_fill(torch.zeros_like(below).scatter(-1, places, below), RULED_OUT)


def min_p(logits: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """The tokens at least `p` times as probable as the most probable one (Nguyen et al., 2024, section 3)."""
    probable = logits.softmax(-1)
    return logits.masked_fill(probable < p * probable.amax(-1, keepdim=True), RULED_OUT)


def repetition(logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float) -> Float[Tensor, "B V"]:
    """Logits of tokens `seen` before divided by `penalty`, negative ones multiplied (Keskar et al., 2019, 4.1)."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
