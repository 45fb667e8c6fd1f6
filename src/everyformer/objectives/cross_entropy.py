"""Cross entropy over a vocabulary in one pass over the logits."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.objectives.base import IGNORED

ROWS = 64
"""Rows of logits that are worked on together, few enough to stay in a processor's cache."""


def cross_entropy(logits: Float[Tensor, "R V"], labels: Int[Tensor, " R"], smoothing: float = 0.0) -> Float[Tensor, ""]:
    """The sum of -(1 - s) log p(label) - s mean(log p) over the rows whose label is not -100, in float32.

    Equal to torch's with `reduction="sum"`; the gradient is formed beside the loss, a few rows at a time, so that
    neither a float32 copy of the logits nor their log-probabilities are kept.
    """
    return _CrossEntropy.apply(logits, labels, smoothing)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits) if wanted else None
        total = torch.zeros((), dtype=torch.promote_types(logits.dtype, torch.float32), device=logits.device)
        even = smoothing / logits.shape[1]
        for start in range(0, len(logits), ROWS):
            rows, label = logits[start : start + ROWS].to(total.dtype), labels[start : start + ROWS]
            real = label != IGNORED
            chosen = label.clamp(min=0)[:, None]
            norm = rows.logsumexp(1, keepdim=True)
            loss = norm - (1 - smoothing) * rows.gather(1, chosen)
            if smoothing:
                loss -= smoothing * rows.mean(1, keepdim=True)
            total += loss.masked_fill(~real[:, None], 0).sum()
            if grad is not None:
                share = (rows - norm).exp_()
                if smoothing:
                    share -= even
                share.scatter_add_(1, chosen, torch.full_like(norm, smoothing - 1))
                grad[start : start + ROWS] = share.mul_(real[:, None])
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, None]:  # type: ignore[override]
        (grad,) = ctx.saved_tensors
        return grad * upstream.to(grad.dtype), None, None
